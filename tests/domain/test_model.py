"""The vocabulary: ids that may never change, what a kind and a status mean, and secrets that do not show."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from restic_manager.domain.model import (
    JOB_NAMESPACE,
    BackupSpec,
    Kind,
    Limits,
    RepoAccess,
    Spec,
    Status,
    attempt_job_id,
    fingerprint,
    kind_of,
    new_id,
    slot_job_id,
)
from restic_manager.protocol.messages import CommandRun, StandingOrder
from tests.protocol.samples import SPECS

SCHEDULE = "0d9fb2b4-6f0e-4a53-8a4c-2f9d1f6b7e20"
HOST = "5f0c1a52-0a3c-4b43-9a55-5d6f0d1c8b11"
SLOT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
FIRST = "83222ad4-3ee7-55e7-92f7-e1b42797d1fb"


class TestJobIds:
    """Literals: both peers compute them apart, in every version there will ever be. Never change one."""

    def test_the_namespace(self) -> None:
        assert str(JOB_NAMESPACE) == "5c1a2f0e-63f5-5b0d-9a55-2f6a3f1d9c77"

    @pytest.mark.parametrize(
        ("schedule_id", "host_id", "slot", "job_id"),
        [
            (SCHEDULE, HOST, SLOT, FIRST),
            ("é", "", datetime(1970, 1, 1, tzinfo=UTC), "78c606a4-18c0-513e-9e7a-91e081a9bc4d"),
            (SCHEDULE, HOST, datetime(999, 1, 1, tzinfo=UTC), "a744358f-043e-5772-9f0b-f8c77e6b8536"),
        ],
    )
    def test_of_slots(self, schedule_id: str, host_id: str, slot: datetime, job_id: str) -> None:
        assert slot_job_id(schedule_id, host_id, slot) == job_id

    @pytest.mark.parametrize(
        ("attempt", "job_id"),
        [(1, "56baecec-edf8-50be-a08a-2c8570073b5c"), (2, "7bb0a1a6-419b-5410-ae8d-e528ab38522b")],
    )
    def test_of_attempts(self, attempt: int, job_id: str) -> None:
        assert attempt_job_id(FIRST, attempt) == job_id

    def test_is_the_text_of_the_protocol_document(self) -> None:
        assert str(uuid.uuid5(JOB_NAMESPACE, f"{SCHEDULE};{HOST};2026-03-29T01:30:00Z")) == FIRST

    def test_the_same_instant_in_another_zone_is_the_same_slot(self) -> None:
        berlin = SLOT.astimezone(timezone(timedelta(hours=2)))
        assert slot_job_id(SCHEDULE, HOST, berlin) == FIRST

    def test_every_part_counts(self) -> None:
        ids = {
            FIRST,
            slot_job_id(HOST, SCHEDULE, SLOT),
            slot_job_id(SCHEDULE, HOST, SLOT + timedelta(seconds=1)),
            slot_job_id(SCHEDULE, HOST + "x", SLOT),
        }
        assert len(ids) == 4

    @pytest.mark.parametrize("attempt", [0, -1])
    def test_the_first_attempt_is_the_job_itself(self, attempt: int) -> None:
        with pytest.raises(ValueError, match="the slot's own id"):
            attempt_job_id(FIRST, attempt)

    def test_new_ids_are_random(self) -> None:
        ids = {new_id() for _ in range(100)}
        assert len(ids) == 100
        assert all(str(uuid.UUID(one)) == one and uuid.UUID(one).version == 4 for one in ids)


class TestWords:
    def test_terminal_is_every_status_but_two(self) -> None:
        assert [status.value for status in Status if not status.terminal] == ["queued", "running"]

    @pytest.mark.parametrize(
        ("kind", "heavy", "exclusive", "reading"),
        [
            (Kind.BACKUP, True, False, False),
            (Kind.INIT, True, True, False),
            (Kind.FORGET, True, True, False),
            (Kind.PRUNE, True, True, False),
            (Kind.CHECK, True, True, False),
            (Kind.UNLOCK, False, False, False),
            (Kind.STATS, False, False, True),
            (Kind.RESTORE, True, False, False),
            (Kind.VERIFY, True, False, False),
            (Kind.COPY, True, False, False),
            (Kind.LS, False, False, True),
            (Kind.FIND, False, False, True),
            (Kind.DIFF, False, False, True),
            (Kind.TAG, True, True, False),
            (Kind.SNAPSHOTS, False, False, True),
        ],
    )
    def test_kinds(self, kind: Kind, heavy: bool, exclusive: bool, reading: bool) -> None:
        assert (kind.heavy, kind.exclusive, kind.reading) == (heavy, exclusive, reading)

    @pytest.mark.parametrize("spec", [BackupSpec(paths=("/etc",)), *SPECS.values()])
    def test_specs(self, spec: Spec) -> None:
        kind = kind_of(spec)
        assert msgspec.json.decode(msgspec.json.encode(spec), type=Spec) == spec
        assert msgspec.to_builtins(spec)["kind"] == kind.value

    def test_every_kind_has_a_spec(self) -> None:
        assert {cls.__struct_config__.tag for cls in Spec.__args__} == {kind.value for kind in Kind}

    def test_no_limits_is_none_at_all(self) -> None:
        assert Limits() == Limits(time_limit=None, stall_limit=None)


class TestSecrets:
    def test_do_not_show(self) -> None:
        repo = RepoAccess(
            repo_id="r1", url="rest:https://u:hunter2@h/", password="s3cret", env={"B2_ACCOUNT_KEY": "k3y"}
        )
        spec = BackupSpec(paths=("/etc",))
        order = CommandRun(job_id="j", spec=spec, repo=repo, restic_host="h", ordered_at=SLOT)
        standing = StandingOrder(spec=spec, repo=repo, restic_host="h")
        for shown in (f"{repo}", f"{repo!r}", f"{order}", f"{order!r}", f"{[standing]}", f"{(repo,)}"):
            assert "r1" in shown
            assert not any(secret in shown for secret in ("hunter2", "s3cret", "k3y"))

    def test_but_travel(self) -> None:
        repo = RepoAccess(repo_id="r1", url="u", password="s3cret", env={"A": "b"})
        assert msgspec.json.decode(msgspec.json.encode(repo), type=RepoAccess) == repo


class TestFingerprint:
    def test_is_pinned(self) -> None:
        assert fingerprint(BackupSpec(paths=("/etc",))) == "61297ce4dfd0773fec505c8305881e05"

    def test_does_not_depend_on_the_order_of_keys(self) -> None:
        assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1}) == "cf18a029e5a0c29229df0753ee807c70"

    def test_any_difference_is_another(self) -> None:
        specs = [
            BackupSpec(paths=("/etc",)),
            BackupSpec(paths=("/etc", "/srv")),
            BackupSpec(paths=("/etc",), tags=("a",)),
        ]
        assert len({fingerprint(spec) for spec in specs}) == 3
