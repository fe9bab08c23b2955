"""What may be sent now: who may be together where, in which order, and that nobody starves."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restic_manager.domain.dispatching import READERS, Choice, Load, Queued, Reason, Why, Working, choose
from restic_manager.domain.model import Kind

BACKUP, INIT, PRUNE, RESTORE, COPY, LS = Kind.BACKUP, Kind.INIT, Kind.PRUNE, Kind.RESTORE, Kind.COPY, Kind.LS
UNLOCK = Kind.UNLOCK
EVERYONE = {f"h{number}" for number in range(10)}


class Active(NamedTuple):
    """A job that runs, whole: the tests' own picture, from which both hosts and repositories are told."""

    job_id: str
    host_id: str
    repo_id: str
    kind: Kind
    source_id: str | None = None
    alone: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        return as_queued(self).places

    @property
    def needs_all(self) -> bool:
        return as_queued(self).needs_all


def as_queued(one: Active) -> Queued:
    return Queued(one.job_id, 0, one.host_id, one.repo_id, one.kind, source_id=one.source_id, alone=one.alone)


def running(one: Queued) -> Active:
    return Active(one.job_id, one.host_id, one.repo_id, one.kind, one.source_id, one.alone)


def chosen(queued: list[Queued], active: list[Active], online: set[str], rooms: dict[str, int] | None = None) -> Choice:
    working = [Working(one.job_id, one.host_id, one.repo_id, one.kind) for one in active]
    loads = [Load(repo_id, one.job_id, alone=one.needs_all) for one in active for repo_id in one.places]
    return choose(queued, working, loads, online, rooms)


def job(job_id: str, host: str = "h1", repo: str = "r1", kind: Kind = BACKUP, **more: Any) -> Queued:
    return Queued(job_id, int(job_id.strip("jk")), host, repo, kind, **more)


def active(job_id: str, host: str = "h1", repo: str = "r1", kind: Kind = BACKUP, **more: Any) -> Active:
    return Active(job_id, host, repo, kind, **more)


def full(count: int) -> list[Active]:
    """So many jobs of far hosts on r1."""
    return [active(f"a{n}", f"far{n}") for n in range(count)]


CASES: dict[str, tuple[list[Queued], list[Active], set[str], tuple[str, ...], dict[str, Reason]]] = {
    "a free host gets its job": ([job("j1")], [], EVERYONE, ("j1",), {}),
    "one heavy job a host, the oldest first": (
        [job("j1"), job("j2")],
        [],
        EVERYONE,
        ("j1",),
        {"j2": Reason(Why.HOST_BUSY, "j1")},
    ),
    "a busy host waits": ([job("j2")], [active("j1")], EVERYONE, (), {"j2": Reason(Why.HOST_BUSY, "j1")}),
    "hosts share a repository": ([job("j1"), job("j2", "h2")], [], EVERYONE, ("j1", "j2"), {}),
    "an absent host gets nothing": ([job("j1")], [], {"h2"}, (), {"j1": Reason(Why.HOST_OFFLINE)}),
    "what waits for a job waits": (
        [job("j3", waits_for="j2")],
        [],
        EVERYONE,
        (),
        {"j3": Reason(Why.OTHER_JOB, "j2")},
    ),
    "what must be alone waits for what runs there": (
        [job("j2", "h2", kind=PRUNE)],
        [active("j1")],
        EVERYONE,
        (),
        {"j2": Reason(Why.REPO_BUSY, "j1", "r1")},
    ),
    "nothing runs beside it": (
        [job("j2"), job("j3", "h3", kind=RESTORE)],
        [active("j1", "h2", kind=PRUNE)],
        EVERYONE,
        (),
        {"j2": Reason(Why.REPO_BUSY, "j1", "r1"), "j3": Reason(Why.REPO_BUSY, "j1", "r1")},
    ),
    "what others wait for and must be alone goes before what is older": (
        [job("j1"), job("j2", "h2", kind=INIT, urgent=True)],
        [],
        EVERYONE,
        ("j2",),
        {"j1": Reason(Why.REPO_BUSY, "j2", "r1")},
    ),
    "any other takes its turn": (
        [job("j1"), job("j2", "h2", kind=PRUNE), job("j3", "h3")],
        [],
        EVERYONE,
        ("j1",),
        {"j2": Reason(Why.REPO_BUSY, "j1", "r1"), "j3": Reason(Why.REPO_TURN, "j2", "r1")},
    ),
    "a job whose host is busy holds up nobody": (
        [job("j2"), job("j3", "h2", kind=PRUNE)],
        [active("j1", repo="r2")],
        EVERYONE,
        ("j3",),
        {"j2": Reason(Why.HOST_BUSY, "j1")},
    ),
    "unless it has waited long": (
        [job("j2", pressing=True), job("j3", "h2", kind=PRUNE)],
        [active("j1", repo="r2")],
        EVERYONE,
        (),
        {"j2": Reason(Why.HOST_BUSY, "j1"), "j3": Reason(Why.REPO_TURN, "j2", "r1")},
    ),
    "an absent host holds up nobody, however long it waits": (
        [job("j1", kind=PRUNE, urgent=True, pressing=True), job("j2", pressing=True), job("j3", "h3", kind=PRUNE)],
        [],
        EVERYONE - {"h1"},
        ("j3",),
        {"j1": Reason(Why.HOST_OFFLINE), "j2": Reason(Why.HOST_OFFLINE)},
    ),
    "a host passes over what it cannot run": (
        [job("j2", repo="r1"), job("j3", repo="r2")],
        [active("j1", "h2", kind=PRUNE)],
        EVERYONE,
        ("j3",),
        {"j2": Reason(Why.REPO_BUSY, "j1", "r1")},
    ),
    "of two that must be alone the older": (
        [job("j1", kind=PRUNE), job("j2", "h2", kind=Kind.CHECK)],
        [],
        EVERYONE,
        ("j1",),
        {"j2": Reason(Why.REPO_BUSY, "j1", "r1")},
    ),
    "no more than four beside each other": (
        [job("j1"), job("j2", "h2")],
        full(3),
        EVERYONE,
        ("j1",),
        {"j2": Reason(Why.REPO_FULL, "a0", "r1", 4)},
    ),
    "a full repository is not held up by a busy host": (
        [job("j1"), job("j2", "h2"), job("j3", "h3")],
        [*full(3), active("x", repo="r2")],
        EVERYONE,
        ("j2",),
        {"j1": Reason(Why.HOST_BUSY, "x"), "j3": Reason(Why.REPO_FULL, "a0", "r1", 4)},
    ),
    "a place is kept for who has waited long": (
        [job("j1", pressing=True), job("j2", "h2")],
        [*full(3), active("x", repo="r2")],
        EVERYONE,
        (),
        {"j1": Reason(Why.HOST_BUSY, "x"), "j2": Reason(Why.REPO_TURN, "j1", "r1")},
    ),
    "of all that have waited long for one busy host the oldest alone has a place kept": (
        [*(job(f"j{number}", pressing=True) for number in range(1, 6)), job("j6", "h2")],
        [active("x", repo="r2")],
        EVERYONE,
        ("j6",),
        {f"j{number}": Reason(Why.HOST_BUSY, "x") for number in range(1, 6)},
    ),
    "and of all that have waited long for busy hosts": (
        [*(job(f"j{number}", f"h{number}", pressing=True) for number in range(1, 5)), job("j5", "h5")],
        [active(f"x{number}", f"h{number}", "r2") for number in range(1, 5)],
        EVERYONE,
        ("j5",),
        {f"j{number}": Reason(Why.HOST_BUSY, f"x{number}") for number in range(1, 5)},
    ),
    "but not where its host's job there makes room for it": (
        [job("j1", pressing=True), job("j2", "h2")],
        [*full(2), active("x")],
        EVERYONE,
        ("j2",),
        {"j1": Reason(Why.HOST_BUSY, "x")},
    ),
    "restores go before everything": (
        [job("j1"), job("j2", "h2", kind=PRUNE, urgent=True), job("j3", "h3", kind=RESTORE)],
        full(3),
        EVERYONE,
        ("j3",),
        {"j1": Reason(Why.REPO_TURN, "j2", "r1"), "j2": Reason(Why.REPO_BUSY, "a0", "r1")},
    ),
    "also on their host": (
        [job("j1", repo="r2"), job("j2", kind=RESTORE)],
        [],
        EVERYONE,
        ("j2",),
        {"j1": Reason(Why.HOST_BUSY, "j2")},
    ),
    "readers run beside the heavy one": (
        [job(f"j{n}", kind=LS) for n in range(1, READERS + 2)],
        [active("x", repo="r2")],
        EVERYONE,
        ("j1", "j2", "j3", "j4"),
        {"j5": Reason(Why.HOST_READING, "j1")},
    ),
    "a copy is on both": (
        [job("j1", kind=COPY, source_id="r2"), job("j2", "h2", repo="r2", kind=PRUNE)],
        [],
        EVERYONE,
        ("j1",),
        {"j2": Reason(Why.REPO_BUSY, "j1", "r2")},
    ),
    "a copy waits for either": (
        [job("j1", kind=COPY, source_id="r2"), job("j2", "h2", kind=PRUNE)],
        [active("x", "h3", repo="r2", kind=PRUNE)],
        EVERYONE,
        (),
        {"j1": Reason(Why.REPO_BUSY, "x", "r2"), "j2": Reason(Why.REPO_TURN, "j1", "r1")},
    ),
    "looking at locks and removing stale ones waits for nobody": (
        [job("j1", kind=Kind.LOCKS), job("j2", kind=UNLOCK)],
        [active("x", "h2", kind=PRUNE), active("y", repo="r2")],
        EVERYONE,
        ("j1", "j2"),
        {},
    ),
    "unless it is the server that removes them": (
        [job("j1", kind=UNLOCK, alone=True), job("j2", "h2")],
        [active("x", "h3")],
        EVERYONE,
        (),
        {"j1": Reason(Why.REPO_BUSY, "x", "r1"), "j2": Reason(Why.REPO_TURN, "j1", "r1")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_choice(name: str) -> None:
    queued, running_now, online, send, waiting = CASES[name]
    choice = chosen(queued, running_now, online)
    assert choice.send == send
    assert choice.waiting == waiting


def test_how_many_a_repository_takes_is_its_own() -> None:
    queued = [job("j1"), job("j2", "h2"), job("j3", "h3", "r2"), job("j4", "h4", "r2")]
    assert chosen(queued, [], EVERYONE, {"r1": 1}).send == ("j1", "j3", "j4")


HOSTS, REPOS = ["h1", "h2", "h3"], ["r1", "r2"]
KINDS = [BACKUP, BACKUP, BACKUP, INIT, PRUNE, RESTORE, COPY, LS, LS, Kind.DUMP, Kind.LOCKS, UNLOCK]


@st.composite
def jobs(draw: st.DrawFn, serial: int, kinds: list[Kind] = KINDS) -> Queued:
    kind = draw(st.sampled_from(kinds))
    repo = draw(st.sampled_from(REPOS))
    return Queued(
        f"j{serial}",
        serial,
        draw(st.sampled_from(HOSTS)),
        repo,
        kind,
        waits_for=draw(st.sampled_from([None, None, None, "other"])),
        urgent=draw(st.booleans()),
        source_id=("r2" if repo == "r1" else "r1") if kind is COPY else None,
        alone=kind is UNLOCK and draw(st.booleans()),
        pressing=draw(st.booleans()),
    )


World = tuple[list[Queued], list[Active], set[str], dict[str, int]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    queued = [draw(jobs(serial)) for serial in range(draw(st.integers(0, 14)))]
    rooms = {repo: draw(st.integers(1, 3)) for repo in REPOS}
    active_now: list[Active] = []
    for number in range(draw(st.integers(0, 6))):
        one = running(draw(jobs(100 + number)))
        if lawful([*active_now, one], rooms):
            active_now.append(one)
    return queued, active_now, set(draw(st.lists(st.sampled_from(HOSTS), unique=True))), rooms


def lawful(together: list[Active], rooms: dict[str, int]) -> bool:
    """Whether these may run beside each other: the rules as they are said, and nothing of how they are kept."""
    for host in {one.host_id for one in together}:
        there = [one for one in together if one.host_id == host]
        if sum(one.kind.heavy for one in there) > 1 or sum(one.kind.reading for one in there) > READERS:
            return False
    for repo, room in rooms.items():
        on = [one for one in together if repo in one.places]
        if any(one.needs_all for one in on) and len(on) > 1:
            return False
        if len(on) > room:
            return False
    return True


def greedy(world: World) -> tuple[str, ...]:
    """The slow model: in the order of turns, each goes that may be beside all that runs, was sent, or keeps its place.

    A kept place is played by a ghost: a job on a host of its own.
    """
    queued, active_now, online, rooms = world
    together, sent = list(active_now), []
    turns = sorted(
        queued,
        key=lambda one: (
            0 if one.kind in {RESTORE, Kind.DUMP} else 1 if one.urgent and one.needs_all else 2,
            one.serial,
        ),
    )
    keeping: list[Active] = []
    awaited: set[str] = set()  # repositories on which a place is kept for a busy host
    for one in turns:
        if one.waits_for is not None or one.host_id not in online:
            continue
        me = running(one)
        if not lawful([other for other in [*together, me] if other.host_id == me.host_id], {}):
            heavy_on = next((o.repo_id for o in together if o.host_id == me.host_id and o.kind.heavy), None)
            if one.pressing and one.needs_all:
                keeping.append(me)
            elif one.pressing and heavy_on != one.repo_id:
                free = set(me.places) - awaited
                awaited |= free
                keeping += [me._replace(kind=BACKUP, repo_id=repo, source_id=None) for repo in sorted(free)]
            continue
        ghosts = [other._replace(host_id=f"ghost{number}") for number, other in enumerate(keeping)]
        # Places that are kept do not take each other's: only what would come on top is in question.
        blocked = any(
            (me.needs_all or other.needs_all)
            for repo in me.places
            for other in [*together, *ghosts]
            if repo in other.places
        ) or any(sum(repo in other.places for other in [*together, *ghosts]) >= rooms[repo] for repo in me.places)
        if blocked:
            keeping.append(me)
        else:
            together.append(me)
            sent.append(me.job_id)
    return tuple(sent)


@given(worlds())
@settings(max_examples=500)
def test_it_chooses_what_the_slow_model_chooses(world: World) -> None:
    assert chosen(*world).send == greedy(world)


@given(worlds())
@settings(max_examples=300)
def test_what_is_sent_keeps_the_peace_and_every_other_job_has_a_reason(world: World) -> None:
    queued, active_now, online, rooms = world
    choice = chosen(*world)
    by_id = {one.job_id: one for one in queued}
    sent = [by_id[job_id] for job_id in choice.send]
    assert all(one.host_id in online and one.waits_for is None for one in sent)
    assert lawful(active_now + [running(one) for one in sent], rooms)
    assert set(choice.send) | set(choice.waiting) == set(by_id)
    assert not set(choice.send) & set(choice.waiting)
    for job_id, reason in choice.waiting.items():
        assert reason.job_id != job_id


@given(worlds())
def test_whoever_is_away_changes_nothing_for_the_others(world: World) -> None:
    queued, active_now, online, rooms = world
    there = [one for one in queued if one.host_id in online]
    assert chosen(queued, active_now, online, rooms).send == chosen(there, active_now, online, rooms).send


PATIENCE = 5
"""Rounds after which a job has waited long, in the world below."""


@given(worlds(), st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_starves_while_every_job_ends(world: World, data: st.DataObject) -> None:
    """Run the world on: each round what has run longest ends, and new jobs of all sorts but restores press in."""
    queued, active_now, online, rooms = world
    waiting = {one.job_id: one._replace(waits_for=None, urgent=False, pressing=False) for one in queued}
    waiting = {job_id: one for job_id, one in waiting.items() if one.host_id in online}
    born = dict.fromkeys(waiting, 0)
    goal, serial = set(waiting), 1_000
    pressing_in = [BACKUP, PRUNE, BACKUP, COPY, LS]
    for number in range(12 * (len(goal) + len(active_now)) + 4 * PATIENCE):
        seen = [one._replace(pressing=number - born[one.job_id] >= PATIENCE) for one in waiting.values()]
        choice = chosen(sorted(seen, key=lambda one: one.serial), active_now, online, rooms)
        active_now += [running(waiting.pop(job_id)) for job_id in choice.send]
        assert lawful(active_now, rooms)
        goal -= set(choice.send)
        if not goal:
            return
        active_now = active_now[1:]
        for _ in range(2):
            serial += 1
            kind = pressing_in[serial % len(pressing_in)]
            host, repo = sorted(online)[serial % len(online)], REPOS[(serial // 3) % 2]
            source = (REPOS[0] if repo == REPOS[1] else REPOS[1]) if kind is COPY else None
            one = Queued(f"j{serial}", serial, host, repo, kind, source_id=source)
            waiting[one.job_id], born[one.job_id] = one, number
    pytest.fail(f"{goal} never went")


def test_the_work_grows_with_the_jobs_looked_at_and_no_faster() -> None:
    """Counted in lines of Python run, which no busy machine changes."""

    def lines_run(size: int) -> int:
        queued = [
            Queued(f"j{n}", n, f"h{n % 97}", f"r{n % 13}", PRUNE if n % 50 == 0 else RESTORE if n % 7 == 0 else BACKUP)
            for n in range(size)
        ]
        count = 0

        def trace(_frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            choose(queued, [], [], {f"h{n}" for n in range(97)})
        finally:
            sys.settrace(before)
        return count

    assert lines_run(20_000) < 11 * lines_run(2_000)
