"""One message of each kind without its optional fields and one with all of them: what the golden files pin.

Run as a program, it writes the golden files that are missing; it never changes one that is there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from restic_manager.domain.hooks import Hooks
from restic_manager.domain.model import (
    BackupStats,
    Failure,
    Fate,
    Limits,
    Offline,
    Outcome,
    Overlap,
    Progress,
    RepoAccess,
    Status,
    Timing,
    Turn,
)
from restic_manager.domain.results import (
    BytesRow,
    ChangeRow,
    CheckStats,
    CopyStats,
    DamagedFile,
    Difference,
    DiffStats,
    FateRow,
    ForgetStats,
    FoundRow,
    ListStats,
    Lock,
    LockedBy,
    LockRow,
    NodeRow,
    ProbeStats,
    PruneStats,
    RepoStats,
    RestoreStats,
    Result,
    Row,
    SnapshotRow,
    SnapshotSummary,
    TagStats,
    UnlockStats,
    VerifyStats,
)
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    DiffSpec,
    DumpSpec,
    FindSpec,
    ForgetPolicy,
    ForgetSpec,
    InitSpec,
    LocksSpec,
    LsSpec,
    Part,
    ProbeSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    Spec,
    StatsSpec,
    TagSpec,
    Tuning,
    UnlockSpec,
    VerifySpec,
)
from restic_manager.protocol.announcing import base32, fingerprint_of, signed_bytes
from restic_manager.protocol.codec import encode, encode_entry
from restic_manager.protocol.jointoken import pin_of
from restic_manager.protocol.messages import (
    Ack,
    Announce,
    Announced,
    Challenge,
    CommandCancel,
    CommandRun,
    CredentialHeld,
    CredentialNew,
    CredentialRotate,
    CredentialUsed,
    Ended,
    Entry,
    Error,
    Evidence,
    Goodbye,
    Heartbeat,
    Hello,
    JobClaim,
    JobFinished,
    JobLog,
    JobProgress,
    JobRows,
    JobStarted,
    Join,
    Joined,
    Message,
    OutboxHead,
    Refused,
    RefusedEntry,
    ScheduleAck,
    ScheduleFire,
    ScheduleFired,
    ScheduleSet,
    SlotDecided,
    StandingOrder,
    Welcome,
)
from restic_manager.runtime.signing import public_key, sign

GOLDEN: Final = Path(__file__).parent / "golden"

AT: Final = datetime(2026, 2, 1, 2, 30, tzinfo=UTC)
LATER: Final = datetime(2026, 2, 1, 2, 31, 5, 250_000, tzinfo=UTC)
LATEST: Final = datetime(2026, 2, 1, 3, 0, tzinfo=UTC)
HOST: Final = "5f0c1a52-0a3c-4b43-9a55-5d6f0d1c8b11"
SCHEDULE: Final = "0d9fb2b4-6f0e-4a53-8a4c-2f9d1f6b7e20"
JOB: Final = "4b1d7a64-9a0d-5f0e-8d93-0c8f5f2c1a77"
OTHER_JOB: Final = "e7a0c1be-2d0f-5a3b-9f55-6f8b4c0d2e91"
EPOCH: Final = "c2b7e8a0-4d1f-4f6a-b1de-90aa7e3f5c44"
JOURNAL: Final = "71d7c9d8-33f5-4d27-8b8a-6e1f0a2b9c30"
INSTANCE: Final = "aa3f4e21-9b7c-4c0e-8f1d-5e2b6a7c8d90"
HASH: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

KEY: Final = bytes(range(32))
NONCE: Final = base32(bytes(range(32)))


def signed(announce: Announce) -> Announce:
    """Given an announcement, return it signed with KEY for NONCE."""
    return msgspec.structs.replace(announce, signature=base32(sign(KEY, signed_bytes(announce, NONCE))))


ANNOUNCE: Final = signed(
    Announce(
        protocol=1,
        agent_version="0.1.0",
        public_key=base32(public_key(KEY)),
        credential_sha256=HASH,
        name="web-1",
        os="Debian GNU/Linux 12 (bookworm)",
        signature="",
    )
)
FULL_HOOKS: Final = Hooks(
    before=("stop-db",), after=("tell-team",), on_failure=("page-me",), finally_=("start-db",), time_limit=60
)
SPEC: Final = BackupSpec(paths=("/etc", "/srv/caf\\xe9"))
FULL_SPEC: Final = BackupSpec(
    paths=("/home", "/srv/back\\\\slash", "/srv/é"),
    excludes=("*.tmp", "/home/*/.cache"),
    exclude_files=("/etc/restic/excludes",),
    exclude_if_present=(".nobackup",),
    exclude_caches=True,
    one_file_system=True,
    tags=("nightly", "prod"),
    files_from=("/etc/restic/paths",),
    exclude_larger_than=1_073_741_824,
    skip_if_unchanged=True,
    dry_run=True,
    tuning=Tuning(
        upload_limit=10_240,
        download_limit=20_480,
        compression="max",
        read_concurrency=4,
        nice=10,
        io_class="best-effort",
        io_level=7,
    ),
    stdin_command="dump-db",
    stdin_name="db.sql",
)
TUNING: Final = Tuning(download_limit=20_480)
SNAPSHOT: Final = "6f1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"
OTHER_SNAPSHOT: Final = "aa1b2c3d"
SPECS: Final[dict[str, Spec]] = {
    "init": InitSpec(),
    "init.full": InitSpec(chunker_from="c0ffee00-7c3e-4f5a-9b6d-1e2f3a4b5c6d"),
    "forget": ForgetSpec(
        policies=(ForgetPolicy(schedule_id=SCHEDULE, restic_host="web-1", keep=Retention(daily=14)),),
    ),
    "forget.full": ForgetSpec(
        policies=(
            ForgetPolicy(
                schedule_id=SCHEDULE,
                restic_host="web-1",
                keep=Retention(
                    last=3,
                    hourly=24,
                    daily=14,
                    weekly=8,
                    monthly=12,
                    yearly=5,
                    within="7d",
                    within_hourly="2d12h",
                    within_daily="1m",
                    within_weekly="3m",
                    within_monthly="1y6m",
                    within_yearly="10y",
                    tags=("keep",),
                ),
                newest_good=SNAPSHOT,
            ),
        ),
        dry_run=True,
    ),
    "forget.snapshots": ForgetSpec(snapshots=(SNAPSHOT, OTHER_SNAPSHOT)),
    "prune": PruneSpec(),
    "prune.full": PruneSpec(
        max_unused=2.5,
        max_repack=0,
        repack_cacheable_only=True,
        repack_uncompressed=True,
        dry_run=True,
        tuning=TUNING,
    ),
    "check": CheckSpec(),
    "check.full": CheckSpec(read=Part(number=3, of=12), rolling=12, tuning=TUNING),
    "unlock": UnlockSpec(),
    "unlock.full": UnlockSpec(remove_all=True),
    "stats": StatsSpec(),
    "stats.full": StatsSpec(mode="restore-size", restic_host="web-1", schedule_id=SCHEDULE, tuning=TUNING),
    "stats.snapshots": StatsSpec(snapshots=(SNAPSHOT,)),
    "restore": RestoreSpec(snapshot=SNAPSHOT, target="/srv/restored"),
    "restore.full": RestoreSpec(
        snapshot=SNAPSHOT,
        target="/srv/restored",
        paths=("/etc/caf\\xe9",),
        includes=("*.conf",),
        overwrite="if-changed",
        delete=True,
        verify=True,
        tuning=TUNING,
    ),
    "restore.newest": RestoreSpec(restic_host="web-1", schedule_id=SCHEDULE, target="/srv/restored"),
    "restore.in_place": RestoreSpec(
        snapshot=OTHER_SNAPSHOT, in_place=True, excludes=("*.tmp",), overwrite="never", dry_run=True
    ),
    "verify": VerifySpec(snapshot=SNAPSHOT),
    "verify.full": VerifySpec(
        restic_host="web-1",
        schedule_id=SCHEDULE,
        files=50,
        size=1_048_576,
        always=("/etc/passwd",),
        seed=20_260_201,
        live=False,
        tuning=TUNING,
    ),
    "copy": CopySpec(from_repo="c0ffee00-7c3e-4f5a-9b6d-1e2f3a4b5c6d"),
    "copy.full": CopySpec(
        from_repo="c0ffee00-7c3e-4f5a-9b6d-1e2f3a4b5c6d", restic_host="web-1", schedule_id=SCHEDULE, tuning=TUNING
    ),
    "copy.snapshots": CopySpec(from_repo="c0ffee00-7c3e-4f5a-9b6d-1e2f3a4b5c6d", snapshots=(SNAPSHOT,)),
    "ls": LsSpec(snapshot=SNAPSHOT),
    "ls.full": LsSpec(restic_host="web-1", schedule_id=SCHEDULE, path="/srv/caf\\xe9", recursive=True),
    "find": FindSpec(patterns=("*.conf",)),
    "find.full": FindSpec(
        patterns=("*.conf", "/etc/*"),
        snapshots=(SNAPSHOT,),
        restic_host="web-1",
        schedule_id=SCHEDULE,
        ignore_case=True,
        oldest=AT,
        newest=LATER,
    ),
    "diff": DiffSpec(old=SNAPSHOT, new=OTHER_SNAPSHOT),
    "diff.full": DiffSpec(restic_host="web-1", schedule_id=SCHEDULE, metadata=True),
    "tag": TagSpec(snapshots=(SNAPSHOT,), add=("keep",)),
    "tag.full": TagSpec(snapshots=(SNAPSHOT, OTHER_SNAPSHOT), add=("keep",), remove=("old",)),
    "tag.newest": TagSpec(restic_host="web-1", schedule_id=SCHEDULE, add=("keep",)),
    "snapshots": SnapshotsSpec(),
    "snapshots.full": SnapshotsSpec(restic_host="web-1", schedule_id=SCHEDULE),
    "locks": LocksSpec(),
    "probe": ProbeSpec(),
    "dump": DumpSpec(snapshot=SNAPSHOT, path="/etc/hosts"),
    "dump.full": DumpSpec(snapshot=OTHER_SNAPSHOT, path="/srv/caf\\xe9", limit=4_096),
}
"""Every kind but backup, plain and with everything."""
RESULTS: Final[tuple[Result, ...]] = (
    ForgetStats(kept=14, removed=2, removed_ids=(SNAPSHOT,), refused=("it would remove all",), dry_run=True),
    PruneStats(repacked=1_024, removed=2_048, remaining=4_096, unused_after=1, dry_run=True),
    CheckStats(
        errors=1,
        damaged_packs=(HASH,),
        damaged_snapshots=(SNAPSHOT,),
        damaged_files=(DamagedFile(snapshot=SNAPSHOT, path="/srv/caf\\xe9"),),
        damaged_files_count=7,
        files_known=False,
        suggest_repair_index=True,
        suggest_prune=True,
        part=3,
        of=12,
    ),
    UnlockStats(removed=2, left=1),
    RepoStats(mode="raw-data", size=4_096, files=3, blobs=12, snapshots=2, uncompressed=8_192, ratio=2.0),
    RestoreStats(
        files_total=9,
        files_restored=5,
        files_skipped=3,
        files_deleted=1,
        bytes_total=4_096,
        bytes_restored=4_000,
        bytes_skipped=96,
        errors=1,
        verified=5,
        dry_run=True,
    ),
    VerifyStats(
        snapshot=SNAPSHOT,
        files=20,
        size=4_096,
        live=18,
        changed=2,
        differences=(Difference(path="/etc/passwd", against="live", what="has other content"),),
        differences_count=1,
        duration=2.5,
    ),
    CopyStats(copied=1, skipped=4, copied_ids=(OTHER_SNAPSHOT,)),
    ListStats(rows=3),
    DiffStats(rows=5, files_changed=2, files_added=1, files_removed=2, bytes_added=10, bytes_removed=20),
    TagStats(changed=1),
    ProbeStats(deletion="refused"),
    LockedBy(
        locks=(
            Lock(id=HASH, hostname="web-2.example", pid=4_711, time=AT, username="root", exclusive=True),
            Lock(id=SNAPSHOT, hostname="web-1.example", pid=815, time=LATER),
        )
    ),
)
SNAPSHOT_ROW: Final = SnapshotRow(
    id=SNAPSHOT,
    time=AT,
    hostname="web-1",
    username="root",
    paths=("/etc", "/srv/caf\ufffd"),
    tags=(f"rm:{SCHEDULE}", f"rmj:{JOB}", "nightly"),
    tree=HASH,
    parent=OTHER_SNAPSHOT,
    original=OTHER_SNAPSHOT,
    program="restic 0.18.1",
    summary=SnapshotSummary(files=1_209, size=9_876_543_210, data_added=1_048_577, files_new=3, files_changed=2),
)
ROWS: Final[tuple[Row, ...]] = (
    SNAPSHOT_ROW,
    SnapshotRow(id=OTHER_SNAPSHOT, time=LATER, hostname="web-1"),
    NodeRow(path="/etc/caf\\xe9", type="file", size=4_096, mode=420, mtime=AT, uid=1_000, gid=100, exact=False),
    FoundRow(snapshot=SNAPSHOT, path="/etc/caf\ufffd", type="file", size=4_096, mtime=AT, exact=False),
    ChangeRow(path="/etc/passwd", modifier="M", exact=False),
    FateRow(schedule_id=SCHEDULE, snapshot=SNAPSHOT_ROW, keep=True, reasons=("daily snapshot",)),
    LockRow(lock=Lock(id=HASH, hostname="web-2.example", pid=4_711, time=AT, username="root", exclusive=True)),
    BytesRow(data=bytes(range(256))),
)
"""A row of each sort."""
REPO: Final = RepoAccess(repo_id="b8a1f9d2-7c3e-4f5a-9b6d-1e2f3a4b5c6d", url="/srv/restic", password="correct horse")
FULL_REPO: Final = RepoAccess(
    repo_id="b8a1f9d2-7c3e-4f5a-9b6d-1e2f3a4b5c6d",
    url="rest:https://backup.example:8000/web/",
    password='p"ss\\wörd',
    env={"RESTIC_REST_USERNAME": "web", "RESTIC_REST_PASSWORD": "s3cret"},
)
REFERRING_REPO: Final = RepoAccess(
    repo_id="b8a1f9d2-7c3e-4f5a-9b6d-1e2f3a4b5c6d",
    url="rest:https://backup.example:8000/web/",
    password_from="agent-file:/etc/restic/password",
    env={"RESTIC_REST_USERNAME": "web"},
    env_from={"RESTIC_REST_PASSWORD": "agent-command:rest-password"},
)
FULL_LIMITS: Final = Limits(time_limit=7_200, stall_limit=1_800, lock_wait=300)
ENTRY: Final = Entry(
    schedule_id=SCHEDULE,
    name="nightly",
    revision=1,
    timing=Timing(cron="30 2 * * *", timezone="UTC", anchor=AT),
    enabled=True,
    effective_from=AT,
)
FULL_ENTRY: Final = Entry(
    schedule_id="e2c4a6b8-1d3f-4579-8bad-cfe013579bdf",
    name="hourly",
    revision=3,
    timing=Timing(cron="@every 1h", timezone="Europe/Berlin", anchor=AT, splay=240),
    enabled=False,
    overlap=Overlap.SKIP,
    offline=Offline.WAIT,
    max_lateness=86_400,
    effective_from=LATER,
    decided_through=AT,
    standing_order=StandingOrder(
        spec=FULL_SPEC, repo=FULL_REPO, restic_host="web-1", limits=FULL_LIMITS, hooks=FULL_HOOKS
    ),
    off_reason="paused: the storage moves",
    turns=(
        Turn(at=LATER, revision=4, enabled=False, off_reason="paused: its disks are full"),
        Turn(at=LATEST, revision=5, enabled=True),
    ),
)
EVIDENCE: Final = Evidence(what="not_running", since=AT, until=LATER)
STATS: Final = BackupStats(
    files_new=3,
    files_changed=2,
    files_unmodified=1_204,
    dirs_new=1,
    dirs_changed=4,
    dirs_unmodified=80,
    data_blobs=6,
    tree_blobs=5,
    data_added=1_048_577,
    data_added_packed=524_289,
    total_files_processed=1_209,
    total_bytes_processed=9_876_543_210,
    total_duration=12.75,
)

SAMPLES: Final[dict[str, Message]] = {
    "join": Join(protocol=1, agent_version="0.1.0", credential_sha256=HASH),
    "joined": Joined(host_id=HOST, host_name="web-1"),
    "joined.full": Joined(host_id=HOST, host_name="web-1", repositories=("rest:https://backup.example/web",)),
    "hello": Hello(
        protocol=1,
        agent_version="0.1.0",
        os="Debian GNU/Linux 12 (bookworm) (Linux 6.1.0 x86_64)",
        timezone="UTC",
        tzdata="2025b",
        boot_id="unknown",
        instance_id=INSTANCE,
        journal_id=JOURNAL,
        outbox=OutboxHead(),
        clock=AT,
    ),
    "hello.full": Hello(
        protocol=1,
        capabilities=("kinds", "standing-orders", "pins"),
        agent_version="0.1.0",
        restic_version="0.18.1",
        restic_problem="restic 0.18.1 is there, but /usr/bin/restic is about to be replaced",
        os="Debian GNU/Linux 12 (bookworm) (Linux 6.1.0 x86_64)",
        machine="web-1.example",
        timezone="Europe/Berlin",
        tzdata="2025b",
        boot_id="0e1d2c3b-4a59-4687-8796-a5b4c3d2e1f0",
        instance_id=INSTANCE,
        journal_id=JOURNAL,
        outbox=OutboxHead(head=12, acked=9, acked_hash=HASH, epoch=EPOCH),
        applied_epoch=EPOCH,
        applied_version=4,
        jobs=(
            JobClaim(job_id=OTHER_JOB, state="accepted"),
            JobClaim(job_id=JOB, state="running", schedule_id=SCHEDULE, scheduled_at=AT, recover=True),
        ),
        clock=LATER,
        pins=(pin_of(b"a certificate"),),
        kinds=("backup", "init", "forget"),
    ),
    "welcome": Welcome(
        host_id=HOST,
        host_name="web-1",
        epoch=EPOCH,
        clock=AT,
        heartbeat_interval=15.0,
        acked_through=0,
        reconnect_spread=5.0,
    ),
    "welcome.full": Welcome(
        host_id=HOST,
        host_name="web-1",
        epoch=EPOCH,
        clock=LATER,
        heartbeat_interval=0.5,
        acked_through=9,
        acked_hash=HASH,
        reconnect_spread=16.67,
        capabilities=("recover", "rows"),
        pins=(pin_of(b"a certificate"), pin_of(b"the next one")),
    ),
    "refused": Refused(code="revoked", message="the host web-1 was removed from this server"),
    "refused.full": Refused(
        code="draining", message="the server stops: try again", retry=True, retry_after=5
    ),
    "heartbeat": Heartbeat(clock=LATER),
    "error": Error(code="invalid", message="goodbye: Expected `str`, got `int` - at `$.reason`"),
    "error.full": Error(code="unknown_type", message="unknown message type 'job.checked'", ref="job.checked"),
    "goodbye": Goodbye(reason="the agent stops"),
    "schedule.set": ScheduleSet(epoch=EPOCH, version=0),
    "schedule.set.full": ScheduleSet(
        epoch=EPOCH,
        version=5,
        part=2,
        parts=3,
        entries=(encode_entry(ENTRY), encode_entry(FULL_ENTRY)),
        ended=(Ended(schedule_id="77777777-7777-4777-8777-777777777777", ended_at=LATER),),
    ),
    "schedule.ack": ScheduleAck(epoch=EPOCH, version=5),
    "schedule.ack.full": ScheduleAck(
        epoch=EPOCH,
        version=5,
        refused=(
            RefusedEntry(schedule_id=SCHEDULE, code="bad_schedule", reason="there is no time zone 'Mars/Olympus'"),
        ),
    ),
    "schedule.fire": ScheduleFire(schedule_id=SCHEDULE, revision=1, scheduled_at=AT, trigger="tick"),
    "schedule.fire.full": ScheduleFire(
        schedule_id=SCHEDULE, revision=1, scheduled_at=AT, trigger="catch-up", stands_for=4, evidence=EVIDENCE
    ),
    "schedule.fired": ScheduleFired(schedule_id=SCHEDULE, revision=1, scheduled_at=AT, answer="rejected"),
    "schedule.fired.full": ScheduleFired(
        schedule_id=SCHEDULE,
        revision=1,
        scheduled_at=AT,
        answer="duplicate",
        job_id=JOB,
        status=Status.RUNNING,
        code="superseded",
        message="at 2026-02-01T02:30:00Z revision 2 was in force, not 1",
    ),
    "slot.decided": SlotDecided(
        seq=1,
        schedule_id=SCHEDULE,
        revision=1,
        first=AT,
        last=AT,
        count=1,
        fate=Fate.SKIPPED,
        reason="overlap: the run before was not finished",
    ),
    "slot.decided.full": SlotDecided(
        seq=2**53,
        schedule_id=SCHEDULE,
        revision=2,
        first=datetime(2026, 1, 31, 2, 30, tzinfo=UTC),
        last=AT,
        count=2,
        fate=Fate.COALESCED,
        reason="a later slot took its place",
        into=datetime(2026, 2, 2, 2, 30, tzinfo=UTC),
        evidence=EVIDENCE,
    ),
    "command.run": CommandRun(job_id=OTHER_JOB, spec=SPEC, repo=REPO, restic_host="web-1", ordered_at=AT),
    "command.run.full": CommandRun(
        job_id=JOB,
        spec=FULL_SPEC,
        repo=FULL_REPO,
        restic_host="web-1",
        limits=FULL_LIMITS,
        schedule_id=SCHEDULE,
        scheduled_at=AT,
        ordered_at=LATER,
        recover=True,
        source=REPO,
        hooks=FULL_HOOKS,
    ),
    **{
        f"command.run.{name}": CommandRun(job_id=OTHER_JOB, spec=spec, repo=REPO, restic_host="web-1", ordered_at=AT)
        for name, spec in SPECS.items()
    },
    "command.run.references": CommandRun(
        job_id=OTHER_JOB, spec=SPECS["prune"], repo=REFERRING_REPO, restic_host="web-1", ordered_at=AT
    ),
    "command.cancel": CommandCancel(job_id=JOB),
    "command.cancel.full": CommandCancel(
        job_id=JOB, reason="cancelled before it was sent to its host", status=Status.CANCELLED
    ),
    "job.started": JobStarted(seq=10, job_id=OTHER_JOB, started_at=AT),
    "job.started.full": JobStarted(seq=10, job_id=JOB, started_at=LATER, schedule_id=SCHEDULE, scheduled_at=AT),
    "job.log": JobLog(seq=11, job_id=JOB, at=AT, stream="stdout", first_line=1, text=""),
    "job.log.full": JobLog(
        seq=11,
        job_id=JOB,
        at=LATER,
        stream="stderr",
        first_line=42,
        text='line 42\nthe 43rd: "é", \U0001f4be, a tab\t and \\u0000 in plain text',
        dropped=7,
    ),
    "job.finished": JobFinished(seq=12, job_id=JOB, outcome=Outcome(status=Status.SUCCEEDED), finished_at=LATER),
    **{
        f"job.finished.{result.__struct_config__.tag}": JobFinished(
            seq=12,
            job_id=JOB,
            outcome=Outcome(status=Status.SUCCEEDED, exit_code=0, result=result),
            finished_at=LATER,
        )
        for result in RESULTS
    },
    "job.finished.full": JobFinished(
        seq=12,
        job_id=JOB,
        outcome=Outcome(
            status=Status.WARNING,
            exit_code=3,
            error=Failure(
                code="source_unreadable",
                message="Some files could not be read; the snapshot is there without them.",
                lines=("error: open /home/a/secret: permission denied",),
            ),
            snapshot_id="6f1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
            stats=STATS,
            result=ListStats(rows=3),
        ),
        started_at=AT,
        finished_at=LATER,
        schedule_id=SCHEDULE,
        scheduled_at=AT,
        retold=True,
        log_lines=431,
    ),
    "job.progress": JobProgress(job_id=JOB, progress=Progress()),
    "job.progress.full": JobProgress(
        job_id=JOB,
        progress=Progress(
            percent_done=0.375,
            files_done=300,
            files_total=800,
            bytes_done=3_750_000,
            bytes_total=10_000_000,
            seconds_elapsed=9,
            seconds_remaining=15,
            errors=1,
            current=("/home/a/film.mkv", "/home/é"),
        ),
    ),
    "job.rows": JobRows(job_id=JOB, first=1, rows=ROWS),
    "ack": Ack(through=12),
    "credential.rotate": CredentialRotate(),
    "credential.new": CredentialNew(credential_sha256=HASH),
    "credential.held": CredentialHeld(credential_sha256=HASH),
    "credential.used": CredentialUsed(credential_sha256=HASH),
    "challenge": Challenge(nonce=NONCE),
    "announce": ANNOUNCE,
    "announce.full": signed(msgspec.structs.replace(ANNOUNCE, pin=pin_of(b"a certificate"))),
    "announced": Announced(fingerprint=fingerprint_of(public_key(KEY)), retry_after=5, expires_at=LATER),
}  # fmt: skip
"""By the name of their golden file: the message's tag, and what is special about it."""


def write_missing() -> None:
    """Write the golden files that are not there yet."""
    GOLDEN.mkdir(exist_ok=True)
    for name, message in SAMPLES.items():
        path = GOLDEN / f"{name}.json"
        if not path.exists():
            path.write_text(encode(message) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_missing()
