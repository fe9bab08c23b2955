"""Values of the API as a server would answer them, for the command line's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from restic_manager.domain.model import (
    Actor,
    BackupSpec,
    BackupStats,
    Evidence,
    Kind,
    Offline,
    Overlap,
    Progress,
    Status,
)
from restic_manager.domain.specs import PruneSpec
from restic_manager.protocol import api

NOW = datetime.now(UTC).replace(microsecond=0)
JOB_ID = "3f2a91c0-0000-5000-8000-000000000001"
NEXT_JOB_ID = "77aa91c0-0000-5000-8000-000000000002"


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def host(**changes: Any) -> api.HostView:
    view = api.HostView(
        id="a1b2c3d4-0000-4000-8000-000000000001",
        name="web1",
        labels={"role": "web"},
        online=True,
        state="joined",
        last_seen_at=ago(minutes=1),
        joined_at=ago(days=30),
        agent_version="0.1.0",
        restic_version="0.18.0",
        restic_problem=None,
        restic_host="web1",
        os="Debian GNU/Linux 12",
        timezone="Europe/Berlin",
        clock_skew=0.2,
        schedule_version=4,
        applied_schedule_version=4,
    )
    return msgspec.structs.replace(view, **changes)


FINGERPRINT = "kzdvv-j2umn-duyau-f35o3-6k6kw"


def pending(**changes: Any) -> api.PendingView:
    view = api.PendingView(
        fingerprint=FINGERPRINT,
        name="db7",
        name_taken=False,
        name_wanted_by=1,
        address="192.0.2.7",
        os="Debian GNU/Linux 12",
        agent_version="0.1.0",
        first_at=ago(minutes=9),
        last_at=ago(seconds=5),
        expires_at=ago(minutes=-60),
        rejected_at=None,
    )
    return msgspec.structs.replace(view, **changes)


def repo(**changes: Any) -> api.RepoView:
    view = api.RepoView(
        id="b1b2c3d4-0000-4000-8000-000000000001",
        name="main",
        url="/srv/restic",
        env_names=("AWS_ACCESS_KEY_ID",),
        created_at=ago(days=2),
        schedules=("nightly",),
        hosts=("web1",),
        last_job_at=ago(hours=3),
    )
    return msgspec.structs.replace(view, **changes)


def slots() -> tuple[api.NextSlot, ...]:
    first = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    return (
        api.NextSlot(utc=first, local="2026-03-28T02:30:00+01:00"),
        api.NextSlot(utc=first + timedelta(hours=23.5), local="2026-03-29T03:00:00+02:00"),
    )


def pause(**changes: Any) -> api.PauseView:
    view = api.PauseView(
        scope="fleet",
        host=None,
        schedule=None,
        reason="storage moves",
        since=ago(hours=1),
        until=None,
        who="operator",
    )
    return msgspec.structs.replace(view, **changes)


def history() -> list[api.HistoryEntry]:
    slot = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    ran = api.HistoryEntry(
        slot=slot,
        last_slot=None,
        fate="ran",
        count=1,
        job_id=JOB_ID,
        host="web1",
        reason=None,
        into=None,
        evidence=Evidence(what="not_running", since=slot - timedelta(hours=9), until=slot + timedelta(minutes=1)),
        attempts=(JOB_ID, "9c1b0000-0000-5000-8000-000000000002"),
        status=Status.SUCCEEDED,
    )
    blank: dict[str, Any] = {"job_id": None, "evidence": None, "attempts": (), "status": None}
    return [
        msgspec.structs.replace(ran, slot=slot + timedelta(days=1), fate="pending", **blank),
        ran,
        msgspec.structs.replace(
            ran,
            slot=slot - timedelta(days=2),
            last_slot=slot - timedelta(days=1),
            fate="coalesced",
            count=1_440,
            reason="a later slot took its place",
            into=slot,
            **blank,
        ),
        msgspec.structs.replace(
            ran,
            slot=slot - timedelta(days=3),
            fate="unknown",
            reason="host away since 2026-03-25T00:00:00Z, and a reason may be longer than a line",
            **blank,
        ),
    ]


def why() -> api.WhyView:
    entry = history()[1]
    return api.WhyView(
        sentence="01:30 UTC on web1: caught up at 01:31 as job 3f2a91c0…, which succeeded",
        schedule="nightly",
        host="web1",
        slot=entry.slot,
        local="2026-03-28T02:30:00+01:00",
        coalesced=0,
        entry=entry,
    )


def schedule(**changes: Any) -> api.ScheduleView:
    view = api.ScheduleView(
        id="c1b2c3d4-0000-4000-8000-000000000001",
        name="nightly",
        enabled=True,
        kind=Kind.BACKUP,
        cron="30 2 * * *",
        timezone="Europe/Berlin",
        splay=0,
        overlap=Overlap.QUEUE,
        offline=Offline.RUN,
        max_lateness=None,
        repo="main",
        hosts=("web1",),
        labels={},
        all=False,
        targets=(api.Target(name="web1", online=True),),
        paths=("/etc", "/home"),
        excludes=("*.tmp",),
        exclude_files=(),
        exclude_if_present=(),
        exclude_caches=False,
        one_file_system=False,
        tags=("nightly",),
        spec=BackupSpec(paths=("/etc", "/home"), excludes=("*.tmp",), tags=("nightly",)),
        revision=1,
        created_at=ago(days=1),
        words="at 02:30 every day, Europe/Berlin",
        next=slots(),
    )
    return msgspec.structs.replace(view, **changes)


def job(status: Status = Status.SUCCEEDED, **changes: Any) -> api.JobView:
    started = None if status is Status.QUEUED else ago(minutes=5)
    finished = ago(minutes=4) if status.terminal else None
    view = api.JobView(
        id=JOB_ID,
        kind=Kind.BACKUP,
        host="web1",
        schedule="nightly",
        repo="main",
        slot=ago(minutes=5),
        actor_kind=Actor.SCHEDULE,
        status=status,
        created_at=ago(minutes=5),
        started_at=started,
        finished_at=finished,
        exit_code=0 if status is Status.SUCCEEDED else None,
        snapshot_id="deadbeefcafe" if status is Status.SUCCEEDED else None,
        error=None,
        stats=BackupStats(total_files_processed=1_234, total_bytes_processed=5 << 30, data_added=3 << 20)
        if status is Status.SUCCEEDED
        else None,
        trigger="tick",
        stands_for=1,
        attempt=1,
        attempt_of=None,
        next_attempt=None,
        waits_for="host web1, which is offline" if status is Status.QUEUED else None,
        cancel_requested_at=None,
        log_lines=3,
        log_lines_dropped=0,
        spec=BackupSpec(paths=("/etc",)),
    )
    return msgspec.structs.replace(view, **changes)


SNAPSHOT = "deadbeefcafe0123deadbeefcafe0123deadbeefcafe0123deadbeefcafe0123"
OLDER = "0123abcdcafe0123deadbeefcafe0123deadbeefcafe0123deadbeefcafe0123"


def snapshot(**changes: Any) -> api.SnapshotView:
    view = api.SnapshotView(
        id=SNAPSHOT,
        repo="main",
        time=ago(hours=3),
        host="web1",
        restic_host="web1",
        schedule="nightly",
        job_id=JOB_ID,
        paths=("/etc", "/home"),
        tags=("nightly",),
        username="root",
        files=1_234,
        size=5 << 30,
        data_added=3 << 20,
        tree="aa" * 32,
        parent=OLDER,
        original=None,
        program="restic 0.18.0",
    )
    return msgspec.structs.replace(view, **changes)


def list_state(**changes: Any) -> api.ListState:
    return msgspec.structs.replace(api.ListState(repo="main", at=ago(days=5), stale=False), **changes)


def snapshots(*views: api.SnapshotView, lists: tuple[api.ListState, ...] | None = None) -> api.SnapshotsView:
    return api.SnapshotsView(snapshots=views, lists=(list_state(),) if lists is None else lists)


def sizes() -> list[api.SizeView]:
    return [
        api.SizeView(at=ago(days=14), size=10 << 30, uncompressed=None, snapshots=10),
        api.SizeView(at=ago(days=7), size=12 << 30, uncompressed=30 << 30, snapshots=17),
        api.SizeView(at=ago(hours=1), size=11 << 30, uncompressed=29 << 30, snapshots=12),
    ]


def maintenance(**changes: Any) -> api.MaintenanceView:
    prune = schedule(
        name="main-prune",
        kind=Kind.PRUNE,
        cron="H H * * 0",
        spec=PruneSpec(),
        words="once a week, Europe/Berlin",
        paths=(),
        excludes=(),
        tags=(),
    )
    view = api.MaintenanceView(repo=repo(maintainer="web1"), schedules=(prune,))
    return msgspec.structs.replace(view, **changes)


def progress(done: float = 0.5) -> Progress:
    return Progress(
        percent_done=done,
        files_done=int(done * 1_000),
        files_total=1_000,
        bytes_done=int(done * (1 << 30)),
        bytes_total=1 << 30,
        seconds_elapsed=10,
        seconds_remaining=70,
    )


def line(number: int, text: str = "", job_id: str = JOB_ID) -> api.LogEvent:
    return api.LogEvent(job_id=job_id, line=number, at=NOW, stream="stdout", text=text or f"line {number}")


def certificate(**changes: Any) -> api.CertificateView:
    view = api.CertificateView(
        mode="auto",
        pin="a" * 52,
        subject="CN=restic-manager server",
        not_before=ago(days=2),
        not_after=NOW + timedelta(days=7_000),
        next_pin="b" * 52,
        next_shown_from=NOW + timedelta(days=30),
        hosts_without_next=("web1", "web2"),
    )
    return msgspec.structs.replace(view, **changes)


def status_view(**changes: Any) -> api.StatusView:
    view = api.StatusView(
        server=api.ServerView(
            version="0.1.0",
            epoch="e1",
            started_at=ago(hours=2),
            timezone="Europe/Berlin",
            listen="127.0.0.1:8787",
            data_dir="/var/lib/restic-manager",
        ),
        hosts_total=2,
        hosts_online=1,
        schedules_total=3,
        schedules_enabled=2,
        jobs_queued=1,
        jobs_running=1,
        last_24h={"succeeded": 12, "failed": 1},
        hosts=(
            api.HostLine(
                name="web1",
                online=True,
                last_seen_at=NOW,
                last_job_id=JOB_ID,
                last_job_status=Status.SUCCEEDED,
                last_job_at=ago(hours=3),
                last_success_at=ago(hours=3),
                next_slot=NOW + timedelta(hours=5, minutes=10),
                running=1,
                queued=0,
            ),
            api.HostLine(
                name="a-host-with-a-long-name.in-a-long-domain.example.org",
                online=False,
                last_seen_at=ago(days=3),
                last_job_id=None,
                last_job_status=None,
                last_job_at=None,
                last_success_at=None,
                next_slot=None,
                running=0,
                queued=1,
            ),
        ),
        problems=("a-host-with-a-long-name.in-a-long-domain.example.org is offline for 3 d",),
    )
    return msgspec.structs.replace(view, **changes)
