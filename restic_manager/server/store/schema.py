"""Every table of the server's database, in one place. Owns names and types of columns; knows no questions and no rules.

Conventions: ids are text (uuid4, jobs uuid5); instants are integers, microseconds since 1970 UTC (`Moment`), so that
they sort and compare in every engine; open enums are text without CHECK; JSON columns hold msgspec-encoded values of
`domain.model` or `protocol`; secrets are only ever in `secrets`, sealed. Removal is soft where history refers to it.
Migrations are additive (no table rebuilds: rebuilding a parent cascades into its children).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware instant, stored as microseconds since 1970 UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Given an aware instant, return its stored integer."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: object) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Given a stored integer, return the instant in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row: what this database is. epoch is new when it was restored from a copy; key_check proves the sealing key fits.
server = Table(
    "server",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("epoch", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("key_check", LargeBinary),
)

hosts = Table(
    "hosts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("restic_host", String(128), nullable=False, unique=True),  # fixed at the first invite, unique for ever
    Column("created_at", Moment, nullable=False),
    Column("joined_at", Moment),
    Column("removed_at", Moment),
    Column("credential_sha256", String(64), unique=True),  # of the live credential; null until joined
    Column("last_seen_at", Moment),
    Column("agent_version", Text),
    Column("restic_version", Text),
    Column("restic_problem", Text),
    Column("os", Text),
    Column("timezone", Text),
    Column("tzdata", Text),
    Column("boot_id", Text),
    Column("instance_id", Text),
    Column("journal_id", Text),
    Column("capabilities", Text, nullable=False, server_default="[]"),  # JSON list
    Column("clock_offset", Float),  # seconds the host's clock is ahead of the server's, at its last hello
    Column(
        "schedule_version", BigInteger, nullable=False, server_default="1"
    ),  # of its set: changes with anything in it
    Column("applied_schedule_version", BigInteger, nullable=False, server_default="0"),
    Column("applied_epoch", String(64)),
    Column(
        "refused_entries", Text, nullable=False, server_default="[]"
    ),  # JSON list of RefusedEntry, from the last ack
    Column("machine", Text),  # its own name of itself, which restic writes into locks
    Column("pins", Text, nullable=False, server_default="[]"),  # JSON list: what it held at its last hello
    Column("kinds", Text),  # JSON list: the kinds its policy allowed at its last hello; null: it does not say
    Column("credential_at", Moment),  # since when the live credential is the one it is
    Column("next_credential_sha256", String(64), index=True),  # of a rotation: lets in, too, and by that becomes live
    Column("rotation_asked_at", Moment),  # an operator's wish, kept until the new credential was used
    Column("revoked_at", Moment),  # its agent is refused until it joins again
    Column("purge_at", Moment),  # of a removed host: its history is to go, too; what is left is its name
)
# A name is unique among hosts that are not removed: checked in the writer's transaction (one writer), because a partial
# unique index is not portable to every engine SQLAlchemy knows.
Index("ix_hosts_name", hosts.c.name)

host_labels = Table(
    "host_labels",
    metadata,
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False),
    Column("key", String(63), nullable=False),
    Column("value", String(256), nullable=False),
    PrimaryKeyConstraint("host_id", "key"),
)

# A token that lets one host join (or rejoin). joined_sha256: the credential hash it was used with; the same token with
# the same hash gets the same answer until it expires.
invites = Table(
    "invites",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
    Column("revoked_at", Moment),
    Column("joined_sha256", String(64), index=True),
    Column("repositories", Text),  # JSON list of ids: those the join brings; null: the host's own, else all
)

# Credentials that are no longer valid, by their hash, so that whoever still has one is told why. why: replaced,
# rotated, revoked, removed (`store.credentials`).
past_credentials = Table(
    "past_credentials",
    metadata,
    Column("credential_sha256", String(64), primary_key=True),
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False, index=True),
    Column("ended_at", Moment, nullable=False),
    Column("why", String(16), nullable=False),
)

# Machines that have announced themselves and wait for a word. What is approved becomes a host and leaves; the rest goes
# an hour after it was last heard of. fingerprint: of the public key, by which people compare.
pending_hosts = Table(
    "pending_hosts",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("credential_sha256", String(64), nullable=False),
    Column("name", Text, nullable=False),  # what the machine calls itself: not checked, and nobody's until approved
    Column("os", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("network", Text, nullable=False, index=True),  # what shares its limit
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False, index=True),
    Column("rejected_at", Moment),
)

# One row a journal (fresh agent data directory): how far its reports are committed, and the hash of the last of them.
journals = Table(
    "journals",
    metadata,
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False),
    Column("journal_id", String(64), nullable=False),
    Column("acked_through", BigInteger, nullable=False, server_default="0"),
    Column("acked_hash", String(64)),
    Column("first_seen_at", Moment, nullable=False),
    PrimaryKeyConstraint("host_id", "journal_id"),
)

# Durable reports that could not be understood or verified: acked (so that they are not repeated for ever), kept, shown.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False, index=True),
    Column("journal_id", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    Column("frame", Text, nullable=False),  # cut to 64 Ki characters
)

repos = Table(
    "repos",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("url", Text, nullable=False),  # never with a password in it
    Column("env_names", Text, nullable=False, server_default="[]"),  # JSON list; the values are in `secrets`
    Column("created_at", Moment, nullable=False),
    Column("removed_at", Moment),
    Column("append_only", Boolean, nullable=False, server_default="0"),  # hosts but the maintainer cannot delete there
    Column("max_parallel", Integer, nullable=False, server_default="4"),  # jobs at once that need not be alone
    Column("chunker_from", String(64)),  # the repository whose chunker parameters an init takes
    # Who does what hosts cannot (forget, prune), and under which URL it reaches the repository, if under another; what
    # else it needs for that is in `secrets`, the names of those variables here.
    Column("maintainer_id", String(64)),
    Column("maintainer_url", Text),
    Column("maintainer_env_names", Text, nullable=False, server_default="[]"),
    Column("part_read", Integer),  # the last part of its data that a rolling check has read well, and of how many
    Column("parts", Integer),
    Column("listed_at", Moment),  # its snapshots are known as they were then
    Column("changed_at", Moment),  # a job that may have changed them ended then
    # References (`domain.references`): where on the hosts the password stands, and variables, as a JSON object by name.
    Column("password_from", Text),
    Column("env_from", Text, nullable=False, server_default="{}"),
    Column("maintainer_env_from", Text, nullable=False, server_default="{}"),
    Column("maintainer_per_job", Boolean, nullable=False, server_default="0"),  # the rest comes with each job, unkept
    Column("deletion", String(16)),  # what a probe found of its hosts' deleting there: refused or possible
    Column("probed_at", Moment),
)
Index("ix_repos_name", repos.c.name)

# Sealed values: AEAD bound to (owner_id, purpose). Nothing else in the database holds a secret.
secrets = Table(
    "secrets",
    metadata,
    Column("owner_id", String(64), nullable=False),
    Column("purpose", String(64), nullable=False),  # e.g. repo-password, repo-env
    Column("sealed", LargeBinary, nullable=False),
    Column("changed_at", Moment, nullable=False),
    PrimaryKeyConstraint("owner_id", "purpose"),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("spec", Text, nullable=False),  # JSON, domain.model.Spec
    Column("repo_id", String(64), ForeignKey("repos.id"), nullable=False, index=True),
    Column("target_rule", Text, nullable=False),  # JSON, domain.selectors.TargetRule: hosts (ids), labels, or all
    Column("overlap", String(16), nullable=False),
    Column("offline", String(16), nullable=False),
    Column("max_lateness", BigInteger),
    Column("created_at", Moment, nullable=False),  # truncated to seconds it is the anchor of @every
    Column("removed_at", Moment),
    Column("revision", BigInteger, nullable=False),  # the highest ever given out for this schedule
    # The timing as the operator wrote it (may hold `H`, the zone `host`); per host and resolved it is in `assignments`.
    Column("cron", String(256), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("splay", BigInteger, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("retry", Integer, nullable=False, server_default="0"),  # attempts after the first
    Column("retry_backoff", BigInteger, nullable=False, server_default="300"),  # seconds to the first; then doubling
    Column("time_limit", BigInteger),  # seconds; null for none
    Column("stall_limit", BigInteger, server_default="1800"),  # seconds; null for none
    Column("retention", Text),  # JSON, domain.retention.Retention; null: everything is kept
    Column("guards", Text),  # JSON, domain.guards.Guards; null: the usual ones
    Column("hooks", Text),  # JSON, domain.hooks.Hooks; null: none
)
Index("ix_schedules_name", schedules.c.name)

# The history of who runs what when: one row a (schedule, host, revision) interval, resolved for that host. Membership
# is the union of a host's intervals; a target or label edit touches only hosts that come or go; a timing edit ends
# every row and begins new ones; a host whose own zone changed gets a new revision alone, and so does one that comes
# again: to a (schedule, host), a revision is one interval. A slot belongs to the interval (valid_from, valid_to] that
# holds it. One that a pause with an end stops holds its turns, which are intervals like any other, to come or just not
# made rows yet. Never deleted while the schedule's history is kept.
assignments = Table(
    "assignments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schedule_id", String(64), ForeignKey("schedules.id"), nullable=False),
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("cron", String(256), nullable=False),  # `H` resolved
    Column("timezone", String(64), nullable=False),  # concrete
    Column("splay", BigInteger, nullable=False),  # this host's own stable offset, seconds
    Column("anchor", Moment, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("valid_from", Moment, nullable=False),  # effective_from
    Column("valid_to", Moment),  # null while in force
    Column("ended_version", BigInteger),  # the host's schedule_version that first was without this row
    Column("off_reason", Text),  # why it is not enabled, where that is not the schedule's own `enabled`
    Column("turns", Text),  # JSON, tuple of domain.model.Turn: what it becomes by itself; null for nothing
    Column("turn_at", Moment),  # of the first of these
)
Index("ix_assignments_schedule_host", assignments.c.schedule_id, assignments.c.host_id, assignments.c.valid_to)
Index("ix_assignments_host", assignments.c.host_id, assignments.c.valid_to)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("serial", BigInteger, nullable=False, unique=True),  # creation order: the order of dispatch and of lists
    Column("kind", String(32), nullable=False),
    Column("spec", Text, nullable=False),  # JSON, as it was when the job was made
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False),
    Column("schedule_id", String(64), ForeignKey("schedules.id")),
    Column("repo_id", String(64), ForeignKey("repos.id"), nullable=False),
    Column("slot", Moment),
    Column("revision", BigInteger),
    Column("trigger", String(16)),  # tick, catch-up; null without a slot
    Column("stands_for", BigInteger, nullable=False, server_default="1"),
    Column("actor_kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("sent_at", Moment),  # first handed to the host's session; null = the host cannot know of it
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("exit_code", Integer),
    Column("snapshot_id", String(64)),
    Column("error", Text),  # JSON, domain.model.Failure
    Column("stats", Text),  # JSON, domain.model.BackupStats
    Column("verdict_by", String(16)),  # agent or server: the agent's verdict wins over the server's
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("attempt_of", String(64), ForeignKey("jobs.id")),  # the first job of the chain
    Column("waits_for_job", String(64), ForeignKey("jobs.id")),  # an init that has to end first
    Column("cancel_requested_at", Moment),
    Column("cancel_reason", Text),
    Column("tell_host", Boolean, nullable=False, server_default="0"),  # ended here; the host still has to be told
    Column("log_lines", BigInteger, nullable=False, server_default="0"),
    Column("log_bytes", BigInteger, nullable=False, server_default="0"),
    Column("log_lines_dropped", BigInteger, nullable=False, server_default="0"),
    Column("not_before", Moment),  # an attempt's turn: not sent earlier
    Column("limits", Text),  # JSON, domain.model.Limits, as they were when the job was made; null for none
    Column("result", Text),  # JSON, domain.results.Result: what any kind but a backup found out or did
    Column("caused_by", String(64)),  # the job whose end the server made this one for
    Column("rows_kept", BigInteger, nullable=False, server_default="0"),  # of its listing, in job_rows
    Column("rows_text", BigInteger, nullable=False, server_default="0"),  # what these take, in characters
    Column("source_repo_id", String(64)),  # a second repository that it occupies while it runs
    Column("told", String(64)),  # fingerprint of the agent's own verdict, where the server has judged it otherwise
)
Index("ix_jobs_host_status_finished", jobs.c.host_id, jobs.c.status, jobs.c.finished_at)
Index("ix_jobs_host_serial", jobs.c.host_id, jobs.c.serial)
Index("ix_jobs_status_serial", jobs.c.status, jobs.c.serial)
Index("ix_jobs_repo_serial", jobs.c.repo_id, jobs.c.serial)
Index("ix_jobs_repo_kind_status", jobs.c.repo_id, jobs.c.kind, jobs.c.status)
Index("ix_jobs_repo_status_serial", jobs.c.repo_id, jobs.c.status, jobs.c.serial)  # whose turn on a repository it is
Index("ix_jobs_source_status", jobs.c.source_repo_id, jobs.c.status)
Index("ix_jobs_schedule_serial", jobs.c.schedule_id, jobs.c.serial)
Index("ix_jobs_schedule_host_serial", jobs.c.schedule_id, jobs.c.host_id, jobs.c.serial)
Index("ix_jobs_attempt_of", jobs.c.attempt_of)
Index("ix_jobs_waits_for_job", jobs.c.waits_for_job)
Index("ix_jobs_finished_at", jobs.c.finished_at)
Index("ix_jobs_host_kind_serial", jobs.c.host_id, jobs.c.kind, jobs.c.serial)
Index("ix_jobs_not_before", jobs.c.not_before)  # when the dispatcher has to wake up by itself

# A job's log in chunks as they came: consecutive lines of one stream joined by newlines. Head and tail are kept within
# the cap; what was dropped between is counted on the job and on the chunk after the gap.
log_chunks = Table(
    "log_chunks",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("first_line", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("at", Moment, nullable=False),
    Column("stream", String(8), nullable=False),
    Column("text", Text, nullable=False),
    Column("dropped_before", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("job_id", "first_line"),
)

# What a listing job has listed, in chunks as they came, kept for an hour or so: long enough to be read.
job_rows = Table(
    "job_rows",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("first_row", BigInteger, nullable=False),  # from 1
    Column("rows", BigInteger, nullable=False),
    Column("at", Moment, nullable=False),
    Column("text", Text, nullable=False),  # JSON list of domain.results.Row
    PrimaryKeyConstraint("job_id", "first_row"),
)
Index("ix_job_rows_at", job_rows.c.at)

# The snapshots of each repository, as they were when it was last listed. What our own tags say is taken out of `tags`.
snapshots = Table(
    "snapshots",
    metadata,
    Column("repo_id", String(64), ForeignKey("repos.id"), nullable=False),
    Column("id", String(64), nullable=False),
    Column("time", Moment, nullable=False),  # by its own word
    Column("restic_host", Text, nullable=False),
    Column("schedule_id", String(64)),  # by its tag; may be none of ours
    Column("job_id", String(64)),  # by its tag; may be none of ours
    Column("username", Text, nullable=False),
    Column("paths", Text, nullable=False),  # JSON list
    Column("tags", Text, nullable=False),  # JSON list
    Column("tree", Text),
    Column("parent", String(64)),
    Column("original", String(64)),
    Column("program", Text),
    Column("files", BigInteger),  # these three where restic says them (0.17 and newer)
    Column("size", BigInteger),
    Column("data_added", BigInteger),
    PrimaryKeyConstraint("repo_id", "id"),
)
Index("ix_snapshots_repo_time", snapshots.c.repo_id, snapshots.c.time)
Index("ix_snapshots_time", snapshots.c.time)
Index("ix_snapshots_id", snapshots.c.id)
Index("ix_snapshots_host_time", snapshots.c.restic_host, snapshots.c.time)
Index("ix_snapshots_schedule_time", snapshots.c.schedule_id, snapshots.c.time)

# How large a repository was, each time it was measured.
repo_sizes = Table(
    "repo_sizes",
    metadata,
    Column("repo_id", String(64), ForeignKey("repos.id"), nullable=False),
    Column("at", Moment, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("uncompressed", BigInteger),
    Column("snapshots", BigInteger, nullable=False),
    PrimaryKeyConstraint("repo_id", "at"),
)

# The ledger: one row a fate that covers one slot or a run of slots of one (schedule, host). Rows of one share no
# instant: a row stands for every slot from its first to its last. `ran` rows are written in the same transaction as the
# job row. decided_by: the agent, or the server for slots it thinks nobody will tell of; the agent's word replaces that.
fates = Table(
    "fates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schedule_id", String(64), ForeignKey("schedules.id"), nullable=False),
    Column("host_id", String(64), ForeignKey("hosts.id"), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("first_slot", Moment, nullable=False),
    Column("last_slot", Moment, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("fate", String(16), nullable=False),
    Column("reason", Text),
    Column("job_id", String(64), ForeignKey("jobs.id")),
    Column("into_slot", Moment),
    Column("evidence", Text),  # JSON, protocol.messages.Evidence
    Column("recorded_at", Moment, nullable=False),
    Column("decided_by", String(16), nullable=False, server_default="agent"),
    UniqueConstraint("schedule_id", "host_id", "first_slot", "fate", "revision"),
)
Index("ix_fates_schedule_host_last", fates.c.schedule_id, fates.c.host_id, fates.c.last_slot)
Index("ix_fates_fate_recorded", fates.c.fate, fates.c.recorded_at)
Index("ix_fates_job_id", fates.c.job_id)  # pruning a job has to find the fate that names it

# Times in which nothing is to run: of the fleet, of one host or of one schedule. At most one a target is open; what it
# means for a (schedule, host) is written into `assignments`, which alone decides about slots.
pauses = Table(
    "pauses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("scope", String(16), nullable=False),  # fleet, host, schedule
    Column("host_id", String(64), ForeignKey("hosts.id")),
    Column("schedule_id", String(64), ForeignKey("schedules.id")),
    Column("reason", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment),  # null: until somebody resumes
    Column("who", Text, nullable=False),
    Column("ended_at", Moment),  # null while it is open
)
Index("ix_pauses_ended_at", pauses.c.ended_at)

# What somebody should be able to ask about later: joins, refusals, rekeys, new epochs, removals, quarantined reports.
events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("actor", Text, nullable=False),
    Column("what", String(64), nullable=False),
    Column("host_id", String(64)),
    Column("detail", Text, nullable=False),
)
Index("ix_events_at", events.c.at)

# Operators elsewhere: what each holds is a random token, of which only the hash is here. A name is unique among those
# that are not revoked.
operator_tokens = Table(
    "operator_tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("role", String(16), nullable=False),
    Column("scope", Text),  # JSON: which hosts it is for; null: all
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Moment),  # null: good until it is revoked
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),  # exact to a minute
    Column("last_used_from", Text),
)
Index("ix_operator_tokens_name", operator_tokens.c.name)

# What operators did and what they were refused, each row sealed to the one before by its hash (`store.audit`). What
# the fleet did is in `events`.
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # from 1, without a gap
    Column("at", Moment, nullable=False),
    Column("who", Text, nullable=False),
    Column("role", String(16)),  # null: nobody we know
    Column("origin", Text, nullable=False),
    Column("operation", String(64), nullable=False),
    Column("object", Text),
    Column("object_id", String(64)),
    Column("before", Text, nullable=False),  # JSON object: of what was acted on, what is different
    Column("after", Text, nullable=False),
    Column("outcome", String(64), nullable=False),  # done, or the code of an error
    Column("message", Text),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
Index("ix_audit_at", audit.c.at)
Index("ix_audit_who_seq", audit.c.who, audit.c.seq)
