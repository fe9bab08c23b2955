"""What may be sent now: one heavy job a host, exclusive jobs alone, in order, and nobody starves."""

from __future__ import annotations

import sys
from collections import defaultdict
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restic_manager.domain.dispatching import Active, Queued, Reason, Why, choose
from restic_manager.domain.model import Kind

BACKUP, INIT = Kind.BACKUP, Kind.INIT
EVERYONE = {f"h{number}" for number in range(10)}


def job(
    job_id: str,
    host: str = "h1",
    repo: str = "r1",
    kind: Kind = BACKUP,
    *,
    waits: str | None = None,
    urgent: bool = False,
) -> Queued:
    return Queued(job_id, int(job_id.strip("jk")), host, repo, kind, waits, urgent)


def active(job_id: str, host: str = "h1", repo: str = "r1", kind: Kind = BACKUP) -> Active:
    return Active(job_id, host, repo, kind)


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
        [job("j3", waits="j2")],
        [],
        EVERYONE,
        (),
        {"j3": Reason(Why.OTHER_JOB, "j2")},
    ),
    "an exclusive job waits for what runs there": (
        [job("j2", "h2", kind=INIT)],
        [active("j1")],
        EVERYONE,
        (),
        {"j2": Reason(Why.REPO_BUSY, "j1")},
    ),
    "nothing runs beside an exclusive job": (
        [job("j2")],
        [active("j1", "h2", kind=INIT)],
        EVERYONE,
        (),
        {"j2": Reason(Why.REPO_BUSY, "j1")},
    ),
    "an urgent exclusive job goes before what is older": (
        [job("j1"), job("j2", "h2", kind=INIT, urgent=True)],
        [],
        EVERYONE,
        ("j2",),
        {"j1": Reason(Why.REPO_TURN, "j2")},
    ),
    "any other takes its turn": (
        [job("j1"), job("j2", "h2", kind=INIT), job("j3", "h3")],
        [],
        EVERYONE,
        ("j1",),
        {"j2": Reason(Why.REPO_BUSY, "j1"), "j3": Reason(Why.REPO_TURN, "j2")},
    ),
    "an older job that waits for its host goes before an exclusive one": (
        [job("j2"), job("j3", "h2", kind=INIT)],
        [active("j1", repo="r2")],
        EVERYONE,
        (),
        {"j2": Reason(Why.HOST_BUSY, "j1"), "j3": Reason(Why.REPO_TURN, "j2")},
    ),
    "an older job of an absent host does not": (
        [job("j2"), job("j3", "h2", kind=INIT)],
        [],
        EVERYONE - {"h1"},
        ("j3",),
        {"j2": Reason(Why.HOST_OFFLINE)},
    ),
    "an exclusive job of an absent host holds up nobody": (
        [job("j1", kind=INIT, urgent=True), job("j2", "h2")],
        [],
        EVERYONE - {"h1"},
        ("j2",),
        {"j1": Reason(Why.HOST_OFFLINE)},
    ),
    "a host passes over what it cannot run": (
        [job("j2", repo="r1"), job("j3", repo="r2")],
        [active("j1", "h2", kind=INIT)],
        EVERYONE,
        ("j3",),
        {"j2": Reason(Why.REPO_BUSY, "j1")},
    ),
    "of two exclusive jobs the older": (
        [job("j1", kind=INIT), job("j2", "h2", kind=INIT)],
        [],
        EVERYONE,
        ("j1",),
        {"j2": Reason(Why.REPO_BUSY, "j1")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_choice(name: str) -> None:
    queued, running, online, send, waiting = CASES[name]
    choice = choose(queued, running, online)
    assert choice.send == send
    assert choice.waiting == waiting


hosts = st.sampled_from(["h1", "h2", "h3"])
repos = st.sampled_from(["r1", "r2"])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Queued], list[Active], set[str]]:
    queued = []
    for serial in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from([BACKUP, BACKUP, BACKUP, INIT]))
        queued.append(
            Queued(
                f"j{serial}",
                serial,
                draw(hosts),
                draw(repos),
                kind,
                draw(st.sampled_from([None, None, None, "other"])),
                kind is INIT and draw(st.booleans()),
            )
        )
    running: list[Active] = []
    for number in range(draw(st.integers(0, 3))):
        one = Active(f"a{number}", f"h{number + 1}", draw(repos), draw(st.sampled_from([BACKUP, BACKUP, INIT])))
        on_repo = [other for other in running if other.repo_id == one.repo_id]
        if not on_repo or not (one.kind.exclusive or any(other.kind.exclusive for other in on_repo)):
            running.append(one)
    return queued, running, set(draw(st.lists(hosts, unique=True)))


def check_peace(together: list[Active]) -> None:
    """Nothing heavy twice on a host, nothing beside an exclusive job on its repository."""
    on_host: dict[str, list[str]] = defaultdict(list)
    on_repo: dict[str, list[Kind]] = defaultdict(list)
    for one in together:
        on_host[one.host_id].append(one.job_id)
        on_repo[one.repo_id].append(one.kind)
    assert all(len(jobs) == 1 for jobs in on_host.values())
    assert all(len(kinds) == 1 or INIT not in kinds for kinds in on_repo.values())


@given(worlds())
def test_what_is_sent_keeps_the_peace_and_every_other_job_has_a_reason(
    world: tuple[list[Queued], list[Active], set[str]],
) -> None:
    queued, running, online = world
    choice = choose(queued, running, online)
    by_id = {one.job_id: one for one in queued}
    sent = [by_id[job_id] for job_id in choice.send]
    assert all(one.host_id in online and one.waits_for is None for one in sent)
    check_peace(running + [Active(one.job_id, one.host_id, one.repo_id, one.kind) for one in sent])
    assert set(choice.send) | set(choice.waiting) == set(by_id)
    assert not set(choice.send) & set(choice.waiting)
    for job_id, reason in choice.waiting.items():
        assert reason.job_id != job_id


@given(worlds())
@settings(max_examples=300)
def test_nothing_starves_while_every_job_ends(world: tuple[list[Queued], list[Active], set[str]]) -> None:
    """Run the world on: each round all that runs ends, and a stream of new jobs presses in at the back."""
    queued, running, online = world
    waiting = [one._replace(waits_for=None) for one in queued if one.host_id in online]
    goal = {one.job_id for one in waiting}
    serial = 1_000
    for _ in range(6 * len(goal) + 6):
        choice = choose(waiting, running, online)
        by_id = {one.job_id: one for one in waiting}
        running += [Active(i, by_id[i].host_id, by_id[i].repo_id, by_id[i].kind) for i in choice.send]
        check_peace(running)
        waiting = [one for one in waiting if one.job_id not in set(choice.send)]
        goal -= set(choice.send)
        if not goal:
            return
        running = running[1:]  # one ends at a time: hosts and repositories come free one by one
        for host in sorted(online):
            serial += 1
            kind = INIT if serial % 3 == 0 else BACKUP
            waiting.append(Queued(f"j{serial}", serial, host, "r1" if serial % 2 else "r2", kind))
    pytest.fail(f"{goal} never went")


def test_the_work_grows_with_the_jobs_looked_at_and_no_faster() -> None:
    """Counted in lines of Python run, which no busy machine changes."""

    def lines_run(size: int) -> int:
        queued = [Queued(f"j{n}", n, f"h{n % 97}", f"r{n % 13}", INIT if n % 50 == 0 else BACKUP) for n in range(size)]
        count = 0

        def trace(_frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            choose(queued, [], {f"h{n}" for n in range(97)})
        finally:
            sys.settrace(before)
        return count

    assert lines_run(20_000) < 11 * lines_run(2_000)
