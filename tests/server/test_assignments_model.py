"""Random edits against a brute-force model: at every instant every host has exactly the timing it should have.

The model knows no intervals: after each operation it works out, for every (schedule, host), what should be in force,
and remembers that with the instant. The tables must say the same for every instant, those to come included as far as
pauses are to end by themselves, and must not have touched more than changed.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from restic_manager.domain.cron import resolve_hash, splay_offset
from restic_manager.domain.errors import ConflictError
from restic_manager.domain.model import BackupSpec
from restic_manager.domain.pausing import Scope
from restic_manager.server.store import (
    engine,
    fates,
    host_changes,
    hosts,
    migrations,
    pause_changes,
    schedule_changes,
    schema,
    turns,
)
from restic_manager.server.store import schedules as schedule_rows
from restic_manager.server.store.intervals import of_pair
from restic_manager.server.store.pause_changes import FLEET, Target
from tests.server.rows import START, ZONE, add_repo, add_schedule, edit_schedule, greet, invite, sha

MICROSECOND = timedelta(microseconds=1)

host_names = st.sampled_from(["h1", "h2", "h3"])
schedule_names = st.sampled_from(["s1", "s2"])
tiers = st.sampled_from(["web", "db"])
timings = st.fixed_dictionaries(
    {
        "cron": st.sampled_from(["0 3 * * *", "H H * * *", "@every 1h"]),
        "timezone": st.sampled_from(["UTC", "Asia/Tokyo", "host"]),
        "splay": st.sampled_from([0, 600]),
        "enabled": st.booleans(),
    }
)
places = st.one_of(
    st.fixed_dictionaries({"hosts": st.sets(host_names, min_size=1).map(lambda names: tuple(sorted(names)))}),
    st.fixed_dictionaries({"labels": st.fixed_dictionaries({"tier": tiers})}),
    st.just({"all": True}),
)
waits = st.sampled_from([0, 1e-6, 1, 3600])
paused_names = st.sampled_from(["fleet", "h1", "h2", "h3", "s1", "s2"])


class InForce(NamedTuple):
    """What a host should run."""

    cron: str
    timezone: str
    splay: int
    enabled: bool
    off_reason: str | None


class Row(NamedTuple):
    """What is in force, and what it becomes by itself: instants, whether enabled, and why not."""

    present: InForce
    turns: tuple[tuple[datetime, bool, str | None], ...]

    def at(self, instant: datetime) -> InForce:
        """What is to hold at an instant that has not come."""
        passed = [turn for turn in self.turns if turn[0] < instant]
        return self.present._replace(enabled=passed[-1][1], off_reason=passed[-1][2]) if passed else self.present


class ModelPause(NamedTuple):
    since: datetime
    until: datetime | None
    reason: str


@dataclass(frozen=True)
class ModelHost:
    id: str
    joined: bool
    tier: str | None
    zone: str | None = None


@dataclass(frozen=True)
class ModelSchedule:
    id: str
    timing: dict[str, Any]
    hosts: frozenset[str] = frozenset()
    tier: str | None = None
    everyone: bool = False

    def selects(self, host: ModelHost) -> bool:
        return self.everyone or host.id in self.hosts or (self.tier is not None and self.tier == host.tier)


Pair = tuple[str, str]


def template() -> Path:
    """A migrated database with a repository in it, made once."""
    folder = Path(tempfile.mkdtemp(prefix="rm-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "server.db"
    with engine.writing_engine(path).connect() as connection:
        migrations.bring_up(connection, path, now=START)
        with connection.begin():
            add_repo(connection)
    return path


class Fleet(RuleBasedStateMachine):
    """Every rule does one operation to the store and to the model, at one instant."""

    path: Path | None = None

    def __init__(self) -> None:
        super().__init__()
        Fleet.path = Fleet.path or template()
        self.tx = engine.writing_engine(Fleet.path).connect()
        self.tx.begin()  # never committed: each run starts from the template
        self.clock = START
        self.hosts: dict[str, ModelHost] = {}
        self.schedules: dict[str, ModelSchedule] = {}
        self.paused: dict[tuple[Scope, str | None], ModelPause] = {}
        self.told: dict[Pair, list[tuple[datetime, InForce | None]]] = {}
        self.unnoticed = False  # pauses have ended, and nobody has told the store
        self.before = self.stored()

    def teardown(self) -> None:
        try:
            self.check_every_instant()
        finally:
            self.tx.close()

    # -- the model ----------------------------------------------------------------------------------------------------

    def wanted(self) -> dict[Pair, Row]:
        found: dict[Pair, Row] = {}
        for schedule in self.schedules.values():
            for host in self.hosts.values():
                if schedule.selects(host):
                    zone = schedule.timing["timezone"]
                    mine = {"host_id": host.id, "schedule_id": schedule.id}
                    present = InForce(
                        resolve_hash(schedule.timing["cron"], **mine),
                        (host.zone or ZONE) if zone == "host" else zone,
                        splay_offset(schedule.timing["splay"], **mine),
                        *self.standing(schedule, host),
                    )
                    ends = sorted({pause.until for pause in self.paused.values() if pause.until is not None})
                    courses = [(end, *self.standing(schedule, host, after=end)) for end in ends]
                    before = [(present.enabled, present.off_reason), *(course[1:] for course in courses)]
                    turns = [turn for turn, last in zip(courses, before, strict=False) if turn[1:] != last]
                    found[schedule.id, host.id] = Row(present, tuple(turns))
        return found

    def standing(
        self, schedule: ModelSchedule, host: ModelHost, *, after: datetime | None = None
    ) -> tuple[bool, str | None]:
        """Every pause that holds (then), asked one by one; the first of the oldest is the reason."""
        keys = [(Scope.FLEET, None), (Scope.HOST, host.id), (Scope.SCHEDULE, schedule.id)]
        mine = [(at, self.paused[key]) for at, key in enumerate(keys) if key in self.paused]
        held = sorted(
            (pause.since, at, pause.reason)
            for at, pause in mine
            if after is None or pause.until is None or pause.until > after
        )
        if not schedule.timing["enabled"]:
            return False, None
        return (False, held[0][2]) if held else (True, None)

    def named(self, where: dict[str, Any]) -> dict[str, Any] | None:
        """The model's fields for a rule; None when it names a host that is not there."""
        if "hosts" in where:
            if not set(where["hosts"]) <= self.hosts.keys():
                return None
            return {
                "hosts": frozenset(self.hosts[name].id for name in where["hosts"]),
                "tier": None,
                "everyone": False,
            }
        tier = where.get("labels", {}).get("tier")
        return {"hosts": frozenset(), "tier": tier, "everyone": "all" in where}

    # -- the store ----------------------------------------------------------------------------------------------------

    def stored(self) -> tuple[dict[Pair, tuple[int, Row]], dict[str, int]]:
        """What is in force by pair, with its row; and the version of each host's set."""
        rows = self.tx.execute(
            sqlalchemy.select(schema.assignments).where(schema.assignments.c.valid_to.is_(None))
        ).all()
        in_force = {
            (row.schedule_id, row.host_id): (
                row.id,
                Row(
                    InForce(row.cron, row.timezone, row.splay, row.enabled, row.off_reason),
                    tuple((turn.at, turn.enabled, turn.off_reason) for turn in turns.read(row.turns)),
                ),
            )
            for row in rows
        }
        assert len(in_force) == len(rows), "at most one row in force a pair"
        versions = self.tx.execute(sqlalchemy.select(schema.hosts.c.id, schema.hosts.c.schedule_version)).all()
        return in_force, {row.id: row.schedule_version for row in versions}

    def after(self, said: Sequence[str] | None, *, also: Sequence[str] = (), joined: str | None = None) -> None:
        """One operation is done: compare what is in force, and what was touched, with what should have been.

        said: whose set the store says it changed, None where it does not say. also: hosts with other content.
        """
        late, self.unnoticed = self.unnoticed, False
        if late:  # the operation came first, and now somebody notices
            pause_changes.end_due(self.tx, now=self.clock)
        wanted = self.wanted()
        in_force, versions = self.stored()
        assert {pair: value for pair, (_, value) in in_force.items()} == wanted
        rows_before, versions_before = self.before
        touched = set(also)
        for pair in rows_before.keys() | in_force.keys():
            if pair in rows_before and pair in in_force and rows_before[pair][1] == in_force[pair][1]:
                assert rows_before[pair][0] == in_force[pair][0], "who stays keeps the row"
            else:
                touched.add(pair[1])
        bumped = {host_id for host_id, version in versions.items() if version != versions_before.get(host_id, 1)}
        assert touched <= bumped if late else touched == bumped
        if said is not None and not late:
            assert set(said) == touched
        for pair, history in self.told.items():
            if joined == pair[1]:
                history.clear()
        self.remember()
        self.before = in_force, versions

    def remember(self) -> None:
        wanted = self.wanted()
        for pair in self.told.keys() | wanted.keys():
            history = self.told.setdefault(pair, [])
            present = wanted[pair].present if pair in wanted else None
            if (history[-1][1] if history else None) != present:
                history.append((self.clock, present))

    def check_every_instant(self) -> None:
        wanted = self.wanted()
        ends = [pause.until for pause in self.paused.values() if pause.until is not None]
        for pair, history in self.told.items():
            intervals = of_pair(self.tx, fates.Pair(*pair)).intervals
            instants = {instant for instant, _ in history} | {*ends, self.clock}
            probes = {instant + offset for instant in instants for offset in (-MICROSECOND, timedelta(), MICROSECOND)}
            for probe in probes | {self.clock + timedelta(days=1)}:
                expected = [value for since, value in history if since < probe][-1:]
                if probe > self.clock and pair in wanted:
                    expected = [wanted[pair].at(probe)]
                found = [
                    InForce(one.timing.cron, one.timing.timezone, one.timing.splay, one.enabled, one.off_reason)
                    for one in intervals
                    if one.valid_from < probe and (one.valid_to is None or probe <= one.valid_to)
                ]
                assert found == [value for value in expected if value is not None]
            revisions = [one.revision for one in intervals]
            assert revisions == sorted(set(revisions)), "to a schedule and a host, a revision is one interval"

    # -- operations ---------------------------------------------------------------------------------------------------

    @initialize(timing=timings, where=places)
    def begin(self, timing: dict[str, Any], where: dict[str, Any]) -> None:
        for name in ("h1", "h2"):
            self.join(name)
        self.add("s1", timing, {"hosts": ("h1",)} if "h3" in where.get("hosts", ()) else where)

    @rule(wait=waits, noticed=st.sampled_from(["each", "all at once", "not at all"]))
    def wait(self, wait: float, noticed: str) -> None:
        """Time passes; pauses that come to their end meanwhile end at their own instant, whoever notices when."""
        later = self.clock + timedelta(seconds=wait)
        ends = {pause.until for pause in self.paused.values() if pause.until is not None and pause.until <= later}
        for end in sorted(ends):
            self.clock = end
            for key in [key for key, pause in self.paused.items() if pause.until == end]:
                del self.paused[key]
            self.remember()
            if noticed == "each":
                self.after(pause_changes.end_due(self.tx, now=end))
        self.clock = later
        if ends and noticed == "all at once":
            self.after(pause_changes.end_due(self.tx, now=later))
        self.unnoticed = self.unnoticed or (bool(ends) and noticed == "not at all")
        self.check_every_instant()

    def target(self, name: str) -> Target | None:
        if name == "fleet":
            return FLEET
        if name in self.hosts:
            return Target(Scope.HOST, self.hosts[name].id, name)
        return Target(Scope.SCHEDULE, self.schedules[name].id, name) if name in self.schedules else None

    @rule(name=paused_names, reason=st.sampled_from(["", "x", "y"]), lasting=st.sampled_from([None, 1e-6, 2, 5000]))
    def pause(self, name: str, reason: str, lasting: float | None) -> None:
        target = self.target(name)
        if target is not None:
            until = None if lasting is None else self.clock + timedelta(seconds=lasting)
            known = self.paused.get(target[:2])
            since = self.clock if known is None else known.since
            self.paused[target[:2]] = ModelPause(since, until, f"paused: {reason}" if reason else "paused")
            self.after(pause_changes.pause(self.tx, target, reason=reason, until=until, now=self.clock))

    @rule(name=paused_names)
    def resume(self, name: str) -> None:
        target = self.target(name)
        if target is not None:
            if self.paused.pop(target[:2], None) is None:
                with pytest.raises(ConflictError):
                    pause_changes.resume(self.tx, target, now=self.clock)
            else:
                self.after(pause_changes.resume(self.tx, target, now=self.clock))

    @rule(name=host_names, tier=tiers)
    def invite(self, name: str, tier: str) -> None:
        invited = invite(self.tx, name, self.clock, tier=tier)
        known = self.hosts.get(name) or ModelHost(invited.host.id, joined=False, tier=None)
        self.hosts[name] = replace(known, tier=tier)
        self.after(invited.changed)

    @rule(name=host_names)
    def join(self, name: str) -> None:
        known = self.hosts.get(name)
        if known is None or not known.joined:
            invited = invite(self.tx, name, self.clock)
            host_id = invited.host.id
            hosts.redeem(self.tx, sha(invited.token), sha(f"credential of {host_id}"), self.clock)
            self.hosts[name] = ModelHost(host_id, joined=True, tier=known.tier if known else None)
            self.after(None, also=[host_id], joined=host_id)

    @rule(name=host_names, tier=st.one_of(tiers, st.none()))
    def label(self, name: str, tier: str | None) -> None:
        if name in self.hosts:
            self.hosts[name] = replace(self.hosts[name], tier=tier)
            put, remove = ({"tier": tier}, ()) if tier else ({}, ("tier",))
            host = hosts.resolve(self.tx, name)
            self.after(host_changes.label(self.tx, host, put=put, remove=remove, now=self.clock, default_zone=ZONE))

    @rule(name=host_names, zone=st.sampled_from(["UTC", "Asia/Tokyo", ZONE]))
    def hello(self, name: str, zone: str) -> None:
        if name in self.hosts and self.hosts[name].joined:  # who has not joined has no session to greet in
            host = self.hosts[name] = replace(self.hosts[name], zone=zone)
            changed = greet(self.tx, hosts.resolve(self.tx, name), self.clock, timezone=zone)
            self.after([host.id] if changed else [])

    @rule(name=host_names)
    def remove_host(self, name: str) -> None:
        if name in self.hosts:
            host_changes.remove(self.tx, hosts.resolve(self.tx, name), now=self.clock)
            self.after(None, also=[self.hosts.pop(name).id])

    @rule(name=schedule_names, timing=timings, where=places)
    def add(self, name: str, timing: dict[str, Any], where: dict[str, Any]) -> None:
        named = self.named(where)
        if name not in self.schedules and named is not None:
            added = add_schedule(self.tx, name, self.clock, **timing, **where)
            self.schedules[name] = ModelSchedule(added.schedule.id, timing, **named)
            self.after(added.hosts)

    @rule(name=schedule_names, timing=st.one_of(st.none(), timings), where=st.one_of(st.none(), places))
    def edit(self, name: str, timing: dict[str, Any] | None, where: dict[str, Any] | None) -> None:
        named = self.named(where) if where else {}
        if name in self.schedules and named is not None:
            schedule = replace(self.schedules[name], **named)
            self.schedules[name] = replace(schedule, timing=timing or schedule.timing)
            self.retimed(name, {**(timing or {}), **(where or {})}, before=schedule.timing)

    def retimed(self, name: str, fields: dict[str, Any], *, before: dict[str, Any]) -> None:
        """An edit of the timing is a new revision even for a host for which it means the same (`H`, say)."""
        changed = edit_schedule(self.tx, name, self.clock, **fields)
        schedule = self.schedules[name]
        if schedule.timing != before:
            everybody = [host_id for id_, host_id in self.wanted() if id_ == schedule.id]
            # For those the row is new although the timing is not: that is what a revision is.
            for host_id in everybody:
                self.before[0].pop((schedule.id, host_id), None)
        self.after(changed.hosts)

    @rule(name=schedule_names, tag=st.sampled_from(["a", "b"]))
    def change_content(self, name: str, tag: str) -> None:
        if name in self.schedules:
            schedule = schedule_rows.resolve(self.tx, name)
            changed = edit_schedule(self.tx, name, self.clock, tags=(tag,))
            same = schedule.spec == BackupSpec(paths=("/etc",), tags=(tag,))
            mine = [host_id for id_, host_id in self.wanted() if id_ == schedule.id]
            self.after(changed.hosts, also=[] if same else mine)

    @precondition(lambda self: len(self.schedules) > 1)
    @rule(name=schedule_names)
    def remove(self, name: str) -> None:
        changed = schedule_changes.remove(self.tx, schedule_rows.resolve(self.tx, name), now=self.clock)
        del self.schedules[name]
        self.after(changed)

    @invariant()
    def nobody_else_is_known(self) -> None:
        assert {host.name for host in hosts.all_hosts(self.tx)} == self.hosts.keys()


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # to explain takes minutes here
)
