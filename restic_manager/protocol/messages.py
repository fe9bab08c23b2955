"""Every message between an agent and the server, one class each. `docs/protocol.md` is the same list in words.

JSON text frames, one message a frame, `type` is the tag. Unknown fields are ignored. Times are RFC 3339 UTC, durations
are seconds. Messages with `seq` are durable reports: they come from the agent's outbox, in order, and are repeated
until acknowledged. This module knows shapes and bounds only; who may say what when is in `protocol.session`. Over 400
lines, because it is one list.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from restic_manager.domain.hooks import Hooks
from restic_manager.domain.model import (
    Count,
    Fate,
    Id,
    Instant,
    Limits,
    LongText,
    Name,
    Offline,
    Outcome,
    Overlap,
    Progress,
    RepoAccess,
    Revision,
    Seconds,
    ShortText,
    Spec,
    Status,
    Timing,
    Turn,
)
from restic_manager.domain.model import Evidence as Evidence  # noqa: PLC0414 - part of the wire, imported from here too
from restic_manager.domain.results import Row

PROTOCOL_VERSION = 1
MAX_MESSAGE = 1 << 20
"""Longest frame either peer accepts, in characters (trio-websocket counts characters for text)."""
MAX_LOG_TEXT = 64 << 10
"""Longest text of one `job.log`, in characters: far below MAX_MESSAGE even when every character is escaped."""
MAX_ENTRIES_TEXT = 256 << 10
"""A `schedule.set` larger than this is sent in parts of about this many characters."""
MAX_ROWS_TEXT: Final = 256 << 10
"""The rows of one `job.rows` are at most about so many characters."""
MAX_ROWS: Final = 10_000
"""And at most so many."""

CAP_STANDING_ORDERS = "standing-orders"
"""Announced by an agent that keeps and runs standing orders; only such an agent is sent any."""
CAP_KINDS = "kinds"
"""Announced by an agent that carries out every kind of `domain.model.Kind`; any other is sent `backup` and `init`."""
CAP_PINS = "pins"
"""Announced by an agent that knows its server by the pin of its certificate; only such an agent is told pins."""
CAP_ROTATE = "rotate"
"""Announced by an agent that replaces its credential when asked; any other is never asked."""
CAP_REFERENCES = "references"
"""Announced by an agent that looks secrets up on its host; only such an agent is sent access that refers to some."""
CAP_PROBE = "probe"
"""Announced by an agent that carries out `probe`, which tells whether it could delete in a repository."""
CAP_ROWS = "rows"
"""Announced by a server that takes `job.rows`; to any other none are sent."""
CAP_HOOKS = "hooks"
"""Announced by an agent that runs hooks, and backups of what a command writes; no other is sent such an order."""
CAP_RECOVER = "recover"
"""Announced by a server that gives the access for which a claim with `recover` asks."""

Base32 = Annotated[str, Meta(pattern="^[a-z2-7]{52}$")]
"""256 bits in base32 (RFC 4648) without padding, in small letters."""
Sha256 = Annotated[str, Meta(max_length=64, pattern="^[0-9a-f]{64}$")]
Pins = Annotated[tuple[Base32, ...], Meta(max_length=10)]
"""Certificates by the SHA-256 of their DER, in base32."""
Seq = Annotated[int, Meta(ge=1, le=2**53)]
Version = Annotated[int, Meta(ge=0, le=2**53)]


class Message(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all messages."""


# -- joining and the start of a session -------------------------------------------------------------------------------


class Join(Message, frozen=True, kw_only=True, tag="join"):
    """Agent, on `/join`: the SHA-256 (hex) of the credential it has made and fsynced. The token is the bearer."""

    protocol: Annotated[int, Meta(ge=1, le=1_000_000)]
    agent_version: ShortText
    credential_sha256: Sha256


class Challenge(Message, frozen=True, kw_only=True, tag="challenge"):
    """Server, first on `/announce`: 256 random bits, good for this connection only."""

    nonce: Base32


class Announce(Message, frozen=True, kw_only=True, tag="announce"):
    """Agent, on `/announce`: a machine that asks to become a host, and waits until somebody approves its key.

    public_key: Ed25519. name: what the machine calls itself. pin: of the certificate it sees; null where it sees none
    or the system's CAs decide. signature: over `protocol.announcing.signed_bytes`, which covers all of it.
    """

    protocol: Annotated[int, Meta(ge=1, le=1_000_000)]
    agent_version: ShortText
    public_key: Base32
    credential_sha256: Sha256
    name: ShortText
    os: ShortText
    pin: Base32 | None = None
    signature: Annotated[str, Meta(pattern="^[a-z2-7]{103}$")]


class Announced(Message, frozen=True, kw_only=True, tag="announced"):
    """Server: the machine waits for a word, under this fingerprint of its key. It announces itself again then."""

    fingerprint: ShortText
    retry_after: Seconds
    expires_at: Instant


class Joined(Message, frozen=True, kw_only=True, tag="joined"):
    """Server: the join is committed; the same token or key with the same hash gets the same answer.

    repositories: the places (`domain.policy.place_of`) that the agent may use without a further word on the host.
    """

    host_id: Id
    host_name: Name
    repositories: Annotated[tuple[LongText, ...], Meta(max_length=1_000)] = ()


class OutboxHead(Struct, frozen=True, kw_only=True):
    """Where the outbox stands: the highest sequence given out, the highest the server acked, that report's hash.

    epoch: the server's epoch that `acked` is of; null where it is not known.
    """

    head: Version = 0
    acked: Version = 0
    acked_hash: ShortText | None = None
    epoch: Id | None = None


class JobClaim(Struct, frozen=True, kw_only=True):
    """One job the agent knows at hello: accepted (waiting for the runner), running, or finished and unacknowledged.

    recover: its run was cut off with the agent, which keeps no access to ask the repository how far it came: its
    verdict waits for a `command.run` with `recover`.
    """

    job_id: Id
    state: Literal["accepted", "running", "finished"]
    schedule_id: Id | None = None
    scheduled_at: Instant | None = None
    recover: bool = False


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """Agent, first message on `/agent`: who it is now and what it remembers.

    machine: the host's own name of itself, by which restic's locks name it. pins: those of the server's certificate
    that it holds. kinds: the kind words (`domain.policy.KIND_WORDS`) that the host's policy allows; null: it does not
    say.
    """

    protocol: Annotated[int, Meta(ge=1, le=1_000_000)]
    capabilities: Annotated[tuple[ShortText, ...], Meta(max_length=100)] = ()
    agent_version: ShortText
    restic_version: ShortText | None = None
    restic_problem: LongText | None = None
    os: ShortText
    machine: ShortText | None = None
    timezone: ShortText
    tzdata: ShortText
    boot_id: ShortText
    instance_id: Id
    journal_id: Id
    outbox: OutboxHead
    applied_epoch: Id | None = None
    applied_version: Version = 0
    jobs: Annotated[tuple[JobClaim, ...], Meta(max_length=2_000)] = ()
    clock: Instant
    pins: Pins = ()
    kinds: Annotated[tuple[ShortText, ...], Meta(max_length=100)] | None = None


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """Server: the session stands. Reports up to `acked_through` of this journal are committed.

    acked_hash: SHA-256 (hex) of the frame of that report, so that an agent rolled back to an old copy of its journal
    notices that the report it has under this sequence is another one, and takes a new journal id. capabilities: what
    this server does that not every one does. pins: all that the server's certificate may have from now on, the next
    one's among them while it is being changed; to an agent with the capability `pins`.
    """

    host_id: Id
    host_name: Name
    epoch: Id
    clock: Instant
    heartbeat_interval: Annotated[float, Meta(gt=0, le=3_600)]
    acked_through: Version
    acked_hash: ShortText | None = None
    reconnect_spread: Annotated[float, Meta(ge=0, le=86_400)]
    capabilities: Annotated[tuple[ShortText, ...], Meta(max_length=100)] = ()
    pins: Pins = ()


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """Server, instead of joined or welcome: why not, and whether dialling again can help.

    Codes: unknown, revoked, used, expired, invalid, too_old, too_new, rekey, old_copy, duplicate, busy, draining,
    tls_needed, rejected, crowded, wrong_pin.
    """

    code: ShortText
    message: LongText
    retry: bool = False
    retry_after: Seconds | None = None


# -- the credential of a host that has joined -------------------------------------------------------------------------


class CredentialRotate(Message, frozen=True, kw_only=True, tag="credential.rotate"):
    """Server: replace your credential. Said again after each welcome until the new one was used."""


class CredentialNew(Message, frozen=True, kw_only=True, tag="credential.new"):
    """Agent, asked to: the SHA-256 (hex) of the next credential, made and fsynced. The live one stays valid."""

    credential_sha256: Sha256


class CredentialHeld(Message, frozen=True, kw_only=True, tag="credential.held"):
    """Server: it is committed that this one lets in as well. The agent makes it the one it uses, on disk."""

    credential_sha256: Sha256


class CredentialUsed(Message, frozen=True, kw_only=True, tag="credential.used"):
    """Agent: from now on it uses this one, so the one before may die. A hello by it says the same."""

    credential_sha256: Sha256


# -- both directions --------------------------------------------------------------------------------------------------


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """Both: still here. Sent at the welcome's interval whatever else is going on."""

    clock: Instant


class Error(Message, frozen=True, kw_only=True, tag="error"):
    """Both: a message was not understood or not accepted; the session stays. `ref` names the offending type or id."""

    code: ShortText
    message: LongText
    ref: ShortText | None = None


class Goodbye(Message, frozen=True, kw_only=True, tag="goodbye"):
    """Both: this session ends on purpose."""

    reason: ShortText


# -- schedules --------------------------------------------------------------------------------------------------------


class StandingOrder(Struct, frozen=True, kw_only=True):
    """What a slot runs when the server does not answer: what `command.run` would have said."""

    spec: Spec
    repo: RepoAccess
    restic_host: Name
    limits: Limits = Limits()
    hooks: Hooks | None = None


class Entry(Struct, frozen=True, kw_only=True):
    """One schedule as one host has it.

    effective_from: slots at or before it do not belong to this revision. decided_through: what the server's ledger
    already holds for this host (the agent starts from the latest of the two and its own watermark). max_lateness in
    seconds. off_reason: with enabled false, what the slots that pass are recorded with; null is `disabled`. turns: with
    enabled false, what it becomes by itself, in order of time, each in the server's clock; at most the last is enabled.
    """

    schedule_id: Id
    name: Name
    revision: Revision
    timing: Timing
    enabled: bool
    overlap: Overlap = Overlap.QUEUE
    offline: Offline = Offline.RUN
    max_lateness: Seconds | None = None
    effective_from: Instant
    decided_through: Instant | None = None
    standing_order: StandingOrder | None = None
    off_reason: ShortText | None = None
    turns: Annotated[tuple[Turn, ...], Meta(max_length=10)] = ()


class Ended(Struct, frozen=True, kw_only=True):
    """A schedule that left the host's set (removed, or the host is no longer a target), and when."""

    schedule_id: Id
    ended_at: Instant


class ScheduleSet(Message, frozen=True, kw_only=True, tag="schedule.set"):
    """Server: the host's full list, replacing all before it. An empty list is valid.

    A long list comes in `parts`; the agent applies it when all parts of one (epoch, version) have come. `entries` stay
    raw here so that one unusable entry is refused alone (`protocol.codec.decode_entry`).
    """

    epoch: Id
    version: Version
    part: Annotated[int, Meta(ge=1, le=100_000)] = 1
    parts: Annotated[int, Meta(ge=1, le=100_000)] = 1
    entries: tuple[msgspec.Raw, ...] = ()
    ended: tuple[Ended, ...] = ()


class RefusedEntry(Struct, frozen=True, kw_only=True):
    """One entry the agent cannot use, and why. The rest of the set applies."""

    schedule_id: ShortText
    code: ShortText
    reason: LongText


class ScheduleAck(Message, frozen=True, kw_only=True, tag="schedule.ack"):
    """Agent: this version is applied and in its journal; these entries of it are not in use."""

    epoch: Id
    version: Version
    refused: tuple[RefusedEntry, ...] = ()


class ScheduleFire(Message, frozen=True, kw_only=True, tag="schedule.fire"):
    """Agent: this slot is due. Repeated after every welcome until answered.

    stands_for: how many slots this run stands for, itself included. evidence: what made it late, for a catch-up.
    """

    schedule_id: Id
    revision: Revision
    scheduled_at: Instant
    trigger: Literal["tick", "catch-up"]
    stands_for: Annotated[int, Meta(ge=1, le=2**53)] = 1
    evidence: Evidence | None = None


class ScheduleFired(Message, frozen=True, kw_only=True, tag="schedule.fired"):
    """Server: the answer to a fire. dispatched and duplicate carry the job; rejected carries code and message.

    revision is the fire's own, so that the answer to a fire of an old revision closes no later one of the same slot.
    Codes: unknown_schedule, not_a_target, disabled, superseded, unknown_revision, not_a_slot, future, decided.
    """

    schedule_id: Id
    revision: Revision
    scheduled_at: Instant
    answer: Literal["dispatched", "duplicate", "rejected"]
    job_id: Id | None = None
    status: Status | None = None
    code: ShortText | None = None
    message: LongText | None = None


class SlotDecided(Message, frozen=True, kw_only=True, tag="slot.decided"):
    """Agent, durable: slots that make no job. `from` and `to` are the first and last slot, `count` how many."""

    seq: Seq
    schedule_id: Id
    revision: Revision
    first: Instant = msgspec.field(name="from")
    last: Instant = msgspec.field(name="to")
    count: Annotated[int, Meta(ge=1, le=2**53)]
    fate: Fate
    reason: ShortText
    into: Instant | None = None
    evidence: Evidence | None = None


# -- commands ---------------------------------------------------------------------------------------------------------


class CommandRun(Message, frozen=True, kw_only=True, tag="command.run"):
    """Server: run this job. A known id is answered with its state, never run twice.

    recover: the job already ran and ended without a verdict; look its snapshot up, never start a backup. source: the
    second repository, for a spec that names one. hooks: programs of the host's own to run round the job.
    """

    job_id: Id
    spec: Spec
    repo: RepoAccess
    restic_host: Name
    limits: Limits = Limits()
    schedule_id: Id | None = None
    scheduled_at: Instant | None = None
    ordered_at: Instant
    recover: bool = False
    source: RepoAccess | None = None
    hooks: Hooks | None = None


class CommandCancel(Message, frozen=True, kw_only=True, tag="command.cancel"):
    """Server: stop this job; or, with a terminal `status`, tell that it ended on the server without running here.

    `interrupted` answers a claim with `recover`: there is no access to be had, and why.
    """

    job_id: Id
    reason: ShortText = ""
    status: Status | None = None


# -- reports ----------------------------------------------------------------------------------------------------------


class JobStarted(Message, frozen=True, kw_only=True, tag="job.started"):
    """Agent, durable: restic is about to be spawned for this job."""

    seq: Seq
    job_id: Id
    started_at: Instant
    schedule_id: Id | None = None
    scheduled_at: Instant | None = None


class JobLog(Message, frozen=True, kw_only=True, tag="job.log"):
    """Agent, durable: consecutive lines of one stream, joined by newlines.

    first_line counts from 1 over the whole job. dropped: how many lines before these were left out to stay within the
    cap.
    """

    seq: Seq
    job_id: Id
    at: Instant
    stream: Literal["stdout", "stderr", "agent"]
    first_line: Seq
    text: str
    dropped: Count = 0


class JobFinished(Message, frozen=True, kw_only=True, tag="job.finished"):
    """Agent, durable: the verdict. started_at is null when restic was never spawned.

    retold: an earlier epoch of the server had acknowledged it; it is history, and calls for nothing. log_lines: how
    many lines the job's log had, where the agent knows it; they have come before, and are not told again.
    """

    seq: Seq
    job_id: Id
    outcome: Outcome
    started_at: Instant | None = None
    finished_at: Instant
    schedule_id: Id | None = None
    scheduled_at: Instant | None = None
    retold: bool = False
    log_lines: Count | None = None


class JobProgress(Message, frozen=True, kw_only=True, tag="job.progress"):
    """Agent, not durable: the latest value, at most once a second."""

    job_id: Id
    progress: Progress


class JobRows(Message, frozen=True, kw_only=True, tag="job.rows"):
    """Agent, not durable: the next rows of a listing job, in order; `first` counts from 1 over the whole job.

    A link that breaks meanwhile loses some: then the agent ends the job `failed`, code `rows_lost`. The verdict says
    how many there were, and comes after the last of them.
    """

    job_id: Id
    first: Seq
    rows: Annotated[tuple[Row, ...], Meta(min_length=1, max_length=MAX_ROWS)]


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """Server: every report of this journal up to this sequence is committed."""

    through: Version


DurableReport = SlotDecided | JobStarted | JobLog | JobFinished

FromAgent = (
    Hello
    | Heartbeat
    | Error
    | Goodbye
    | CredentialNew
    | CredentialUsed
    | ScheduleAck
    | ScheduleFire
    | SlotDecided
    | JobStarted
    | JobLog
    | JobFinished
    | JobProgress
    | JobRows
)
"""What an agent may say on `/agent` (on `/join` it says `join` only)."""

FromServer = (
    Welcome
    | Refused
    | Heartbeat
    | Error
    | Goodbye
    | CredentialRotate
    | CredentialHeld
    | ScheduleSet
    | ScheduleFired
    | CommandRun
    | CommandCancel
    | Ack
)
"""What the server may say on `/agent` (on `/join` it answers `joined` or `refused`)."""

DURABLE_TYPES = frozenset({"slot.decided", "job.started", "job.log", "job.finished"})
