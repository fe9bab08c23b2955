"""Schedules: what is refused before anything is stored, what an edit touches, and what a host is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy
from sqlalchemy import Connection

from restic_manager.domain.cron import resolve_hash, splay_offset
from restic_manager.domain.errors import ConflictError, InputError, NotFoundError
from restic_manager.domain.guards import Guard, Guards
from restic_manager.domain.model import BackupSpec, InitSpec, Limits, Offline, Overlap, Spec, Timing, kind_of, new_id
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    CheckSpec,
    CopySpec,
    DumpSpec,
    FindSpec,
    ForgetSpec,
    LocksSpec,
    Part,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    StatsSpec,
    UnlockSpec,
    VerifySpec,
)
from restic_manager.protocol.codec import decode_entry, encode, from_server
from restic_manager.protocol.messages import (
    MAX_ENTRIES_TEXT,
    MAX_MESSAGE,
    Ended,
    Entry,
    RefusedEntry,
    ScheduleAck,
    StandingOrder,
)
from restic_manager.runtime.clock import SystemClock
from restic_manager.server.store import (
    assignments,
    events,
    hosts,
    repos,
    retention_advice,
    schedule_changes,
    schedules,
    schema,
)
from restic_manager.server.store.writer import Store, open_store
from tests.server.rows import SEALER, START, ZONE, add_repo, add_schedule, at, edit_schedule, greet, invite, join

EPOCH = "epoch-1"


@pytest.fixture(params=[True, False], ids=["threads", "inline"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "server.db", clock=SystemClock(), threads=request.param) as opened:
        await opened.write(add_repo)
        for name in ("web1", "web2", "db1"):
            await opened.write(partial(join, name=name, tier=name[:-1]))
        yield opened


async def add(store: Store, name: str = "nightly", **fields: Any) -> schedule_changes.Changed:
    return await store.write(lambda tx: add_schedule(tx, name, **fields))


async def edit(store: Store, seconds: float = 10, **fields: Any) -> schedule_changes.Changed:
    return await store.write(lambda tx: edit_schedule(tx, now=at(seconds), **fields))


async def history(store: Store, host: str, name: str = "nightly") -> list[tuple[Any, ...]]:
    """(revision, enabled, from, to) of each interval, instants as seconds since the start."""

    def ask(tx: Connection) -> list[tuple[Any, ...]]:
        schedule_id = tx.execute(
            sqlalchemy.select(schema.schedules.c.id).where(schema.schedules.c.name == name)
        ).scalar_one()
        found = assignments.of(tx, schedule_id, hosts.resolve(tx, host).id)
        return [(one.revision, one.enabled, seconds(one.valid_from), seconds(one.valid_to)) for one in found]

    return await store.read(ask)


def seconds(instant: Any) -> float | None:
    return None if instant is None else (instant - START) / timedelta(seconds=1)


async def versions(store: Store) -> dict[str, int]:
    return {host.name: host.schedule_version for host in await store.read(hosts.all_hosts)}


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "shown"),
    [
        ({"name": "-x"}, InputError, "'-x'"),
        ({"name": "a" * 64}, InputError, "a" * 64),
        ({"cron": ""}, InputError, "five fields"),
        ({"cron": "* * * * * *"}, InputError, "* * * * * *"),
        ({"cron": "0 0 30 2 *"}, InputError, "0 0 30 2 *"),
        ({"cron": "@every 0s"}, InputError, "@every 0s"),
        ({"cron": ",".join(["H"] * 20) + " * * * *"}, InputError, "H,H"),
        ({"timezone": "Europe/Berlni"}, InputError, "Europe/Berlin"),
        ({"cron": "@every 1m", "splay": 60}, InputError, "splay of 1m"),
        ({"max_lateness": 0}, InputError, "max lateness"),
        ({"spec": BackupSpec(paths=("etc",))}, InputError, "'etc'"),
        ({"spec": BackupSpec(paths=("/a",), tags=("a,b",))}, InputError, "a,b"),
        ({"spec": InitSpec()}, InputError, "repo init"),
        ({"spec": LocksSpec()}, InputError, "repo locks"),
        ({"spec": DumpSpec(snapshot="a" * 8, path="/etc")}, InputError, "restore --stdout"),
        ({"spec": ForgetSpec(snapshots=("a" * 8,))}, InputError, "again and again"),
        ({"spec": RestoreSpec(target="/back")}, InputError, "what it has restored before"),
        ({"spec": UnlockSpec(remove_all=True)}, InputError, "for a person to say"),
        ({"spec": CheckSpec(read=Part(number=1, of=4), rolling=4)}, InputError, "one of the two"),
        ({"spec": CopySpec(from_repo="main")}, InputError, "onto itself"),
        ({"spec": CopySpec(from_repo="nowhere")}, NotFoundError, "nowhere"),
        ({"spec": PruneSpec(), "retention": Retention(last=3)}, InputError, "retention of this prune"),
        ({"spec": PruneSpec(), "guards": Guards(least=1)}, InputError, "only a backup has guards"),
        ({"retention": Retention()}, InputError, "no rule"),
        ({"spec": BackupSpec(paths=tuple(f"/{n:0999}" for n in range(300)))}, InputError, "at most"),
        ({"repo": "nowhere"}, NotFoundError, "nowhere"),
        ({"hosts": ("web1", "nobody")}, NotFoundError, "nobody"),
        ({"hosts": ("web1",), "all": True}, InputError, "exactly one"),
        ({"hosts": ("web1",), "labels": {"a": "b"}}, InputError, "exactly one"),
        ({"hosts": ()}, InputError, "exactly one"),
        ({"labels": {"a b": "c"}}, InputError, "a b"),
    ],
)
async def test_what_cannot_be_right_is_named_and_stores_nothing(
    store: Store, fields: dict[str, Any], error: type[Exception], shown: str
) -> None:
    before = (await versions(store), await store.read(lambda tx: events.latest(tx, limit=99)))
    with pytest.raises(error) as caught:
        await add(store, **{"name": "nightly", **fields})
    assert shown in str(caught.value)
    assert await store.read(schedules.all_schedules) == []
    assert await store.read(lambda tx: tx.execute(schema.assignments.select()).all()) == []
    assert (await versions(store), await store.read(lambda tx: events.latest(tx, limit=99))) == before


async def test_a_name_is_taken_until_its_schedule_is_removed(store: Store) -> None:
    first = (await add(store)).schedule
    with pytest.raises(ConflictError, match="nightly"):
        await add(store)
    await store.write(lambda tx: schedule_changes.remove(tx, first, now=at(1)))
    second = (await add(store)).schedule
    assert second.id != first.id
    await add(store, "other")
    with pytest.raises(ConflictError, match="other"):
        await edit(store, name="other")
    assert (await store.read(lambda tx: schedules.get(tx, first.id))).removed_at == at(1)


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "61 * * * *"},
        {"timezone": "No/Where"},
        {"cron": "@every 10s", "splay": 10},
        {"name": "-"},
        {"paths": ("relative",)},
        {"hosts": ("nobody",)},
        {"hosts": ("web1",), "all": True},
        {"all": False},
        {"repo": "nowhere"},
        {"max_lateness": 0},
        {"spec": PruneSpec()},
        {"spec": BackupSpec(paths=("/a",)), "paths": ("/b",)},
        {"retention": Retention()},
    ],
)
async def test_a_wrong_edit_changes_nothing(store: Store, fields: dict[str, Any]) -> None:
    before = (await add(store)).schedule, await versions(store)
    with pytest.raises((InputError, NotFoundError)):
        await edit(store, **fields)
    assert (await store.read(lambda tx: schedules.resolve(tx, "nightly")), await versions(store)) == before
    assert await history(store, "web1") == [(1, True, 0, None)]


# -- every kind -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        ForgetSpec(),
        PruneSpec(max_unused=5.0),
        CheckSpec(rolling=28),
        UnlockSpec(),
        StatsSpec(),
        VerifySpec(files=5),
        CopySpec(from_repo="second"),
        FindSpec(patterns=("*.db",)),
        SnapshotsSpec(),
    ],
    ids=lambda spec: str(kind_of(spec)),
)
async def test_every_kind_is_scheduled_and_waits_for_the_server(store: Store, spec: Spec) -> None:
    second = await store.write(lambda tx: add_repo(tx, "second"))
    schedule = (await add(store, "care", spec=spec, hosts=("web1",), offline=Offline.RUN)).schedule
    wanted = msgspec.structs.replace(spec, from_repo=second.id) if isinstance(spec, CopySpec) else spec
    assert (schedule.kind, schedule.spec, schedule.offline) == (kind_of(spec), wanted, Offline.WAIT)
    assert await store.read(lambda tx: schedules.resolve(tx, "care")) == schedule
    (entry,) = (await told(store, "web1"))[1]
    assert (entry.offline, entry.standing_order) == (Offline.WAIT, None)
    with pytest.raises(InputError, match="waits for it"):
        await store.write(lambda tx: edit_schedule(tx, "care", offline=Offline.RUN))
    with pytest.raises(InputError, match="backups only"):
        await store.write(lambda tx: edit_schedule(tx, "care", paths=("/srv",)))


async def test_the_whole_content_is_edited_at_once(store: Store) -> None:
    await add(store, "care", spec=CheckSpec(rolling=28), hosts=("web1",))
    changed = await store.write(lambda tx: edit_schedule(tx, "care", spec=CheckSpec(rolling=7)))
    assert (changed.schedule.spec, changed.schedule.revision, len(changed.hosts)) == (CheckSpec(rolling=7), 1, 1)
    with pytest.raises(InputError, match="is a check and stays one"):
        await store.write(lambda tx: edit_schedule(tx, "care", spec=PruneSpec()))
    await add(store)
    changed = await edit(store, spec=BackupSpec(paths=("/srv",), tags=("a",)))
    assert changed.schedule.spec == BackupSpec(paths=("/srv",), tags=("a",))


async def test_retention_and_guards_are_kept_and_no_host_is_told(store: Store) -> None:
    kept, guards = Retention(daily=14, tags=("keep",)), Guards(shrink=0.2, off=(Guard.NOTHING,))
    schedule = (await add(store, retention=kept)).schedule
    assert (schedule.retention, schedule.guards) == (kept, None)
    before = await versions(store)
    changed = await edit(store, guards=guards, retention=Retention(last=2))
    assert (changed.schedule.retention, changed.schedule.guards, changed.hosts) == (Retention(last=2), guards, [])
    assert await store.read(lambda tx: schedules.resolve(tx, "nightly")) == changed.schedule
    gone = await edit(store, guards=None, retention=None)
    assert (gone.schedule.retention, gone.schedule.guards, await versions(store)) == (None, None, before)


async def test_a_retention_that_cannot_be_filled_or_applied_is_warned_about(store: Store) -> None:
    schedule = (await add(store, retention=Retention(hourly=24, daily=7))).schedule
    (unfilled,) = await store.read(lambda tx: retention_advice.warnings(tx, schedule))
    assert unfilled.startswith("keep-hourly 24: the schedule runs every day")
    assert retention_advice.usual_gap(schedule) == timedelta(days=1)
    await store.write(lambda tx: tx.execute(schema.repos.update().values(append_only=True)).rowcount)
    (_, nobody) = await store.read(lambda tx: retention_advice.warnings(tx, schedule))
    assert "append-only and has no maintainer" in nobody
    repo = await store.read(lambda tx: repos.resolve(tx, "main"))
    assert await store.read(lambda tx: retention_advice.repo_warnings(tx, repo)) == (nobody,)
    pruning = (await add(store, "prune", spec=PruneSpec(), hosts=("web1",))).schedule
    (refused,) = await store.read(lambda tx: retention_advice.warnings(tx, pruning))
    assert "only its maintainer can prune there" in refused
    web1 = await store.read(lambda tx: hosts.resolve(tx, "web1"))
    await store.write(lambda tx: tx.execute(schema.repos.update().values(maintainer_id=web1.id)).rowcount)
    assert await store.read(lambda tx: retention_advice.warnings(tx, schedule)) == (unfilled,)
    assert await store.read(lambda tx: retention_advice.warnings(tx, pruning)) == ()
    repo = await store.read(lambda tx: repos.resolve(tx, "main"))
    assert await store.read(lambda tx: retention_advice.repo_warnings(tx, repo)) == ()


# -- what an edit touches ---------------------------------------------------------------------------------------------


async def test_what_is_not_said_is_the_servers(store: Store) -> None:
    schedule = (await add(store)).schedule
    assert (schedule.timezone, schedule.overlap, schedule.offline) == (ZONE, Overlap.QUEUE, Offline.RUN)
    assert await store.read(lambda tx: schedules.resolve(tx, schedule.id[:8])) == schedule


@pytest.mark.parametrize(
    "fields", [{"cron": "0 4 * * *"}, {"timezone": "UTC"}, {"splay": 600}, {"enabled": False}, {"cron": "H H * * *"}]
)
async def test_timing_is_a_new_revision_for_everybody(store: Store, fields: dict[str, Any]) -> None:
    await add(store)
    before = await versions(store)
    changed = await edit(store, **fields)
    assert changed.schedule.revision == 2
    assert len(changed.hosts) == 3
    for name, version in (await versions(store)).items():
        assert version == before[name] + 1
        enabled = fields.get("enabled", True)
        assert await history(store, name) == [(1, True, 0, 10), (2, enabled, 10, None)]


@pytest.mark.parametrize(
    "fields",
    [
        {"paths": ("/srv",)},
        {"tags": ("a",)},
        {"exclude_caches": True},
        {"overlap": Overlap.SKIP},
        {"offline": Offline.WAIT},
        {"max_lateness": 3600},
        {"name": "other"},
        {"repo": "second"},
    ],
)
async def test_content_is_no_new_revision(store: Store, fields: dict[str, Any]) -> None:
    await store.write(lambda tx: add_repo(tx, "second"))
    await add(store, hosts=("web1", "web2"))
    before = await versions(store)
    changed = await edit(store, **fields)
    assert changed.schedule.revision == 1
    after = await versions(store)
    assert {name: after[name] - before[name] for name in after} == {"web1": 1, "web2": 1, "db1": 0}
    assert await history(store, "web1", changed.schedule.name) == [(1, True, 0, None)]


async def test_an_edit_that_says_what_is_already_so_touches_nothing(store: Store) -> None:
    await add(store, hosts=("web1",), max_lateness=60)
    before = await versions(store)
    changed = await edit(
        store,
        name="nightly",
        cron="30 2 * * *",
        timezone=None,
        hosts=("web1",),
        paths=("/etc",),
        repo="main",
        enabled=True,
        max_lateness=60,
    )
    assert changed.hosts == []
    assert await versions(store) == before


async def test_who_stays_keeps_the_row_who_returns_starts_anew(store: Store) -> None:
    await add(store, labels={"tier": "web"})
    before = await versions(store)
    changed = await edit(store, 10, hosts=("web1", "db1"))
    after = await versions(store)
    assert {name: after[name] - before[name] for name in after} == {"web1": 0, "web2": 1, "db1": 1}
    assert len(changed.hosts) == 2
    assert changed.schedule.revision == 1
    assert await history(store, "web1") == [(1, True, 0, None)]
    assert await history(store, "web2") == [(1, True, 0, 10)]
    assert await history(store, "db1") == [(1, True, 10, None)]
    await edit(store, 20, all=True)
    assert await history(store, "web1") == [(1, True, 0, None)]
    assert await history(store, "web2") == [(1, True, 0, 10), (2, True, 20, None)]
    row = await store.read(lambda tx: schedules.resolve(tx, "nightly"))
    assert (row.rule.all, row.rule.hosts, row.rule.labels) == (True, (), {})


async def test_targets_and_timing_may_change_at_once(store: Store) -> None:
    await add(store, hosts=("web1", "web2"))
    changed = await edit(store, 10, hosts=("web2", "db1"), cron="0 5 * * *")
    assert len(changed.hosts) == 3
    assert await history(store, "web1") == [(1, True, 0, 10)]
    assert await history(store, "web2") == [(1, True, 0, 10), (2, True, 10, None)]
    assert await history(store, "db1") == [(2, True, 10, None)]


async def test_removal_ends_it_for_everybody(store: Store) -> None:
    schedule = (await add(store, hosts=("web1", "web2"))).schedule
    assert len(await store.write(lambda tx: schedule_changes.remove(tx, schedule, now=at(9)))) == 2
    assert await history(store, "web1") == [(1, True, 0, 9)]
    with pytest.raises(NotFoundError):
        await store.read(lambda tx: schedules.resolve(tx, "nightly"))
    assert await store.write(lambda tx: greet(tx, hosts.resolve(tx, "web1"), timezone="UTC")) is False


async def test_time_does_not_go_back_in_a_history(store: Store) -> None:
    """The server's clock was wrong by an hour and is set right between two edits."""
    await add(store, hosts=("web1",), now=at(3600))
    await edit(store, 60, cron="0 5 * * *")
    await edit(store, 120, hosts=("web2",))
    await edit(store, 180, hosts=("web1",))
    assert await history(store, "web1") == [(1, True, 3600, 3600), (2, True, 3600, 3600), (3, True, 3600, None)]
    assert await history(store, "web2") == [(2, True, 120, 180)]


async def test_each_host_gets_its_own_h_splay_and_zone(store: Store) -> None:
    await store.write(lambda tx: greet(tx, hosts.resolve(tx, "web1"), timezone="Asia/Tokyo"))
    await store.write(lambda tx: greet(tx, hosts.resolve(tx, "web2"), timezone="Moon/Crater"))
    schedule = (
        await add(store, cron="H H * * *", splay=3600, timezone="host", now=START + timedelta(microseconds=7))
    ).schedule
    for name, zone in (("web1", "Asia/Tokyo"), ("web2", ZONE), ("db1", ZONE)):
        host = await store.read(partial(hosts.resolve, reference=name))
        (one,) = await store.read(partial(assignments.of, schedule_id=schedule.id, host_id=host.id))
        assert one.timing == Timing(
            cron=resolve_hash("H H * * *", host_id=host.id, schedule_id=schedule.id),
            timezone=zone,
            anchor=START,
            splay=splay_offset(3600, host_id=host.id, schedule_id=schedule.id),
        )
        assert "H" not in one.timing.cron


async def test_hosts_are_found_by_id_too(store: Store) -> None:
    host = await store.read(lambda tx: hosts.resolve(tx, "db1"))
    changed = await add(store, hosts=(host.id[:13], "db1", "web1"))
    assert sorted(changed.hosts) == sorted({host.id, (await store.read(lambda tx: hosts.resolve(tx, "web1"))).id})
    assert len(changed.schedule.rule.hosts) == 2


async def test_a_big_fleet_is_a_few_statements(tmp_path: Path) -> None:
    """Adding a schedule to n hosts takes a number of statements that does not grow with n."""

    async def statements(count: int) -> int:
        async with open_store(tmp_path / f"{count}.db", clock=SystemClock(), threads=False) as store:
            await store.write(add_repo)

            def insert(tx: Connection) -> None:
                rows = [
                    {"id": new_id(), "name": f"h{n}", "restic_host": f"h{n}", "created_at": START} for n in range(count)
                ]
                tx.execute(schema.hosts.insert(), rows)

            await store.write(insert)
            seen: list[str] = []
            sqlalchemy.event.listen(
                store._writing.engine, "before_cursor_execute", lambda *args: seen.append(str(args[2]))
            )
            changed = await add(store, cron="H H * * *")
            assert len(changed.hosts) == count
            return len(seen)

    assert await statements(2_000) - await statements(10) <= 2 * (2_000 // 500)


# -- what a host is told ----------------------------------------------------------------------------------------------


FAR = at(10**9)


async def told(
    store: Store, name: str, *, standing_orders: bool = True, epoch: str = EPOCH, now: datetime = FAR
) -> tuple[int, list[Entry], list[Ended]]:
    host = await store.read(lambda tx: hosts.resolve(tx, name))
    return await store.read(
        lambda tx: assignments.schedule_set(
            tx, host.id, epoch=epoch, standing_orders=standing_orders, unseal=SEALER.unseal, now=now
        )
    )


async def ack(store: Store, name: str, version: int, *refused: RefusedEntry, epoch: str = EPOCH) -> None:
    host = await store.read(lambda tx: hosts.resolve(tx, name))
    said = ScheduleAck(epoch=epoch, version=version, refused=refused)
    await store.write(lambda tx: assignments.note_ack(tx, host.id, said, at(99)))


async def test_a_set_says_everything_the_agent_needs(store: Store) -> None:
    schedule = (
        await add(store, hosts=("web1",), splay=60, overlap=Overlap.SKIP, max_lateness=3600, time_limit=7200)
    ).schedule
    version, entries, ended = await told(store, "web1")
    assert version == (await versions(store))["web1"]
    assert ended == []
    (entry,) = entries
    access = await store.read(lambda tx: repos.access(tx, schedule.repo_id, SEALER.unseal))
    host = await store.read(lambda tx: hosts.resolve(tx, "web1"))
    assert entry == Entry(
        schedule_id=schedule.id,
        name="nightly",
        revision=1,
        timing=(await store.read(lambda tx: assignments.of(tx, schedule.id, host.id)))[0].timing,
        enabled=True,
        overlap=Overlap.SKIP,
        offline=Offline.RUN,
        max_lateness=3600,
        effective_from=START,
        decided_through=None,
        standing_order=StandingOrder(
            spec=schedule.spec,
            repo=access,
            restic_host="web1",
            limits=Limits(time_limit=7200, stall_limit=1800, lock_wait=300),
        ),
    )
    assert (await told(store, "web2"))[1:] == ([], [])


async def test_secrets_go_only_to_agents_that_run_standing_orders(store: Store) -> None:
    await add(store, "a", hosts=("web1",))
    await add(store, "b", hosts=("web1",), offline=Offline.WAIT)
    assert [entry.standing_order is None for entry in (await told(store, "web1"))[1]] == [False, True]
    _, entries, _ = await told(store, "web1", standing_orders=False)
    assert [entry.standing_order for entry in entries] == [None, None]
    assert "hunter2" not in msgspec.json.encode(entries).decode()


async def test_decided_through_is_the_end_of_the_ledger(store: Store) -> None:
    schedule = (await add(store, hosts=("web1", "web2"))).schedule
    host = await store.read(lambda tx: hosts.resolve(tx, "web1"))

    def record(tx: Connection) -> None:
        for first, last, revision in ((100, 100, 1), (300, 500, 1), (200, 200, 1), (550, 560, 7)):
            tx.execute(
                schema.fates.insert().values(
                    schedule_id=schedule.id,
                    host_id=host.id,
                    revision=revision,
                    first_slot=at(first),
                    last_slot=at(last),
                    count=1,
                    fate="missed",
                    recorded_at=at(600),
                )
            )

    await store.write(record)
    assert [entry.decided_through for entry in (await told(store, "web1"))[1]] == [at(500)]
    assert [entry.decided_through for entry in (await told(store, "web2"))[1]] == [None]
    early = await told(store, "web1", now=at(450))
    assert [entry.decided_through for entry in early[1]] == [at(450)], "a clock that was fast decided the rest"


async def test_what_ended_is_told_until_it_is_acked(store: Store) -> None:
    gone = (await add(store, "gone", hosts=("web1",))).schedule
    back = (await add(store, "nightly", hosts=("web1",))).schedule
    version, _, ended = await told(store, "web1")
    assert ended == [], "an agent that has applied nothing has nothing that could have ended"
    await ack(store, "web1", version)
    await store.write(lambda tx: schedule_changes.remove(tx, gone, now=at(5)))
    await edit(store, 6, hosts=("web2",))
    await edit(store, 7, hosts=("web1",))
    await edit(store, 8, hosts=("web2",))
    version, entries, ended = await told(store, "web1")
    assert entries == []
    assert {one.schedule_id: one.ended_at for one in ended} == {gone.id: at(5), back.id: at(8)}
    await ack(store, "web1", version)
    assert (await told(store, "web1"))[2] == []
    await edit(store, 9, hosts=("web1",))
    assert (await told(store, "web1"))[2] == []
    assert {one.schedule_id for one in (await told(store, "web1", epoch="another"))[2]} == {gone.id}


async def test_an_ack_is_kept_with_what_it_refuses(store: Store) -> None:
    refused = RefusedEntry(schedule_id="x", code="bad_zone", reason="no such zone here")
    await ack(store, "web1", 5, refused)
    host = await store.read(lambda tx: hosts.resolve(tx, "web1"))
    assert (host.applied_schedule_version, host.applied_epoch) == (5, EPOCH)
    assert host.refused_entries == (refused,)
    assert host.last_seen_at == at(99)
    await ack(store, "web1", 6)
    assert (await store.read(lambda tx: hosts.resolve(tx, "web1"))).refused_entries == ()


def entry(number: int, size: int = 10) -> Entry:
    timing = Timing(cron="0 0 * * *", timezone="UTC", anchor=START)
    return Entry(
        schedule_id=f"s{number}", name="x" * size, revision=1, timing=timing, enabled=True, effective_from=START
    )


def test_an_empty_set_is_one_message() -> None:
    (only,) = assignments.set_message_parts(3, EPOCH, [], [])
    assert (only.version, only.epoch, only.part, only.parts, only.entries, only.ended) == (3, EPOCH, 1, 1, (), ())


def test_a_long_set_is_cut_into_messages_any_peer_takes() -> None:
    entries = [entry(number, 50_000 if number == 70 else 10) for number in range(3_000)]
    ended = [Ended(schedule_id=new_id(), ended_at=at(number)) for number in range(3_000)]
    parts = assignments.set_message_parts(3, EPOCH, entries, ended)
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert {part.parts for part in parts} == {len(parts)}
    assert 4 <= len(parts) <= 10
    for part in parts:
        assert len(encode(part)) < MAX_ENTRIES_TEXT + 1_000
        assert from_server.decode(encode(part)) == part
    assert [gone for part in parts for gone in part.ended] == ended
    assert [raw for part in parts for raw in part.entries] == [msgspec.Raw(msgspec.json.encode(one)) for one in entries]
    assert decode_entry(parts[0].entries[0]) == entries[0]


async def test_the_largest_entry_fits_into_one_message(store: Store) -> None:
    env = {"AWS_SESSION_TOKEN": "x" * 8_000, "OS_AUTH_TOKEN": "x" * 8_000}
    await store.write(lambda tx: add_repo(tx, "big", env=env))
    spec = BackupSpec(paths=tuple(f"/{n:0249}" for n in range(1_000)))
    await add(store, repo="big", hosts=("web1",), spec=spec)
    version, entries, ended = await told(store, "web1")
    (part,) = assignments.set_message_parts(version, EPOCH, entries, ended)
    assert len(encode(part)) < MAX_MESSAGE // 2


async def test_an_invited_host_is_told_about_in_the_same_way(store: Store) -> None:
    await add(store)
    invited = await store.write(lambda tx: invite(tx, "new", at(5)))
    assert invited.changed == [invited.host.id]
    assert await history(store, "new") == [(1, True, 5, None)]
