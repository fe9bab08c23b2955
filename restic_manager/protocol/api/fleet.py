"""What the API carries of the server, its hosts, pauses, and of what goes wrong."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from restic_manager.domain.model import Instant, Name, Seconds, Status
from restic_manager.protocol.api.shapes import Labels, PauseReason


class ErrorBody(Struct, frozen=True, kw_only=True):
    """What went wrong, for a program and for a person."""

    code: str
    message: str


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """The body of every answer that is not 2xx, and what `--json` prints on standard error."""

    error: ErrorBody


class ServerView(Struct, frozen=True, kw_only=True):
    """The server itself."""

    version: str
    epoch: str
    started_at: Instant
    timezone: str
    listen: str
    data_dir: str


class CertificateView(Struct, frozen=True, kw_only=True):
    """The certificate by which hosts know the server.

    mode: `auto` for the server's own, known by its pin, `given` for one that the hosts' CAs vouch for. next_pin: of the
    one that is shown from next_shown_from on; hosts_without_next have not said that they know it.
    """

    mode: Literal["auto", "given"]
    pin: str
    subject: str
    not_before: Instant
    not_after: Instant
    next_pin: str | None
    next_shown_from: Instant | None
    hosts_without_next: tuple[str, ...]


class RotateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make the server's next certificate, shown when the overlap (seconds) is over; or, finish, show it now."""

    overlap: Annotated[float, Meta(ge=60, le=366 * 86_400)] = 30 * 86_400.0
    finish: bool = False


class KeyView(Struct, frozen=True, kw_only=True):
    """How many values are sealed with the new key. The key itself is told to nobody."""

    sealed_anew: int


class PauseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let no slot run: until an instant, for so many seconds, or (neither) until somebody resumes."""

    reason: PauseReason = ""
    until: Instant | None = None
    seconds: Seconds | None = None


class PauseView(Struct, frozen=True, kw_only=True):
    """A pause that holds now: of the fleet, of one host or of one schedule. until: null for until somebody resumes."""

    scope: Literal["fleet", "host", "schedule"]
    host: str | None
    schedule: str | None
    reason: str
    since: Instant
    until: Instant | None
    who: str


class HostLine(Struct, frozen=True, kw_only=True):
    """One host in `status`: is it there, what did it last do, what comes next.

    proven_at: when a backup of it was last restored and found right (kind `verify`).
    """

    name: str
    online: bool
    last_seen_at: Instant | None
    last_job_id: str | None
    last_job_status: Status | None
    last_job_at: Instant | None
    last_success_at: Instant | None
    next_slot: Instant | None
    running: int
    queued: int
    proven_at: Instant | None = None


class StatusView(Struct, frozen=True, kw_only=True):
    """The whole fleet at a glance. `problems` are sentences, worst first; empty means nothing is known to be wrong."""

    server: ServerView
    hosts_total: int
    hosts_online: int
    schedules_total: int
    schedules_enabled: int
    jobs_queued: int
    jobs_running: int
    last_24h: dict[str, int]
    hosts: tuple[HostLine, ...]
    problems: tuple[str, ...]
    pauses: tuple[PauseView, ...] = ()


class InviteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let a host join under this name; for a known host, let it rejoin.

    repos: the repositories it may use without a further word there, by name or id; none said: those its schedules use,
    else all there are. allow: kinds of job that the line to paste lets it do, beside the safe ones.
    """

    name: str
    labels: Labels = {}
    repos: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    allow: Annotated[tuple[str, ...], Meta(max_length=100)] = ()


class InviteView(Struct, frozen=True, kw_only=True):
    """A single-use token (shown once) and the line to paste on the host.

    repositories: those that the host may use without a further word on it, if it joins now.
    """

    name: str
    token: str
    expires_at: Instant
    command: str
    rejoin: bool
    repositories: tuple[str, ...] = ()
    note: str | None = None


class HostView(Struct, frozen=True, kw_only=True):
    """One host. `online` means it has a live session now; times are null until they happened.

    kinds: the kinds of job that its own policy allows, as it told last; null: it does not say.
    state: `revoked` is one that had joined and is refused until it joins again. credential_at: since when it has the
    credential it has; rotation_asked_at: since when it is to replace that, null when it has. proven_at, proven_job_id:
    the last `verify` that restored a backup of it and found it right.
    """

    id: str
    name: str
    labels: dict[str, str]
    online: bool
    state: Literal["invited", "joined", "revoked"]
    last_seen_at: Instant | None
    joined_at: Instant | None
    agent_version: str | None
    restic_version: str | None
    restic_problem: str | None
    restic_host: str
    os: str | None
    timezone: str | None
    clock_skew: float | None
    schedule_version: int
    applied_schedule_version: int
    refused_entries: tuple[str, ...] = ()
    proven_at: Instant | None = None
    proven_job_id: str | None = None
    pauses: tuple[PauseView, ...] = ()
    kinds: tuple[str, ...] | None = None
    credential_at: Instant | None = None
    rotation_asked_at: Instant | None = None
    revoked_at: Instant | None = None


class ApproveRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine that announced itself is to be called (null: what it calls itself), and its labels."""

    name: str | None = None
    labels: Labels = {}


class PendingView(Struct, frozen=True, kw_only=True):
    """A machine that has announced itself and waits. What it says of itself is not checked; its fingerprint is.

    name_taken: a host has that name already, and stays what it is. name_wanted_by: how many that wait want that name.
    """

    fingerprint: str
    name: str
    name_taken: bool
    name_wanted_by: int
    address: str
    os: str
    agent_version: str
    first_at: Instant
    last_at: Instant
    expires_at: Instant
    rejected_at: Instant | None


class LabelRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels to set and label names to take away."""

    set: Labels = {}
    remove: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()


class RenameRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new name for a host."""

    name: str
