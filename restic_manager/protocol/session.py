"""The decisions of a session's start and of sequences, without I/O: who may go on from where.

Decides from a hello and what the server's store holds of that journal; knows no socket, no row and no clock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from restic_manager.domain.errors import RefusedError
from restic_manager.protocol.messages import PROTOCOL_VERSION, Hello, OutboxHead, Refused, Welcome


@dataclass(frozen=True)
class JournalRecord:
    """What the server holds of one (host, journal id): how far its reports are committed, and that report's hash."""

    acked_through: int
    acked_hash: str | None


@dataclass(frozen=True)
class Accepted:
    """The session may stand.

    new_journal: the server has never seen this journal id. behind: the server's store holds less than this agent was
    acked, so a gap up to the agent's next report is accepted. old_copy: and by that the store turned out to be an old
    copy that nobody had noticed yet, so it needs a new epoch.
    """

    acked_through: int
    acked_hash: str | None
    new_journal: bool
    behind: bool = False
    old_copy: bool = False


@dataclass(frozen=True)
class Holding:
    """What the server's store is and has given: its epoch, the version of this host's schedule set as it stands."""

    epoch: str
    version: int


def frame_hash(frame: str) -> str:
    """Given a report's frame as it went over the wire, return its SHA-256 in hex."""
    return hashlib.sha256(frame.encode("utf-8")).hexdigest()


def refusal_error(refused: Refused) -> RefusedError:
    """Given a refusal from the wire, return the error to raise on this side."""
    return RefusedError(refused.message, code=refused.code, retry=refused.retry, retry_after=refused.retry_after)


def judge_version(protocol: int) -> Refused | None:
    """Given a peer's protocol version, return the refusal, or None if we speak it."""
    if protocol < PROTOCOL_VERSION:
        return Refused(
            code="too_old",
            message=f"this agent speaks protocol {protocol}, the server needs {PROTOCOL_VERSION}: upgrade the agent",
        )
    if protocol > PROTOCOL_VERSION:
        return Refused(
            code="too_new",
            message=f"this agent speaks protocol {protocol}, the server {PROTOCOL_VERSION}: upgrade the server first",
        )
    return None


def judge_hello(hello: Hello, record: JournalRecord | None, holding: Holding) -> Accepted | Refused:
    """Given a hello, the server's record of its journal and what its store is, return from where the session goes on,
    or why it cannot.

    Refused `rekey` when the agent's journal is a rolled-back or cloned copy (the server has acked past its head, or the
    report both call the last acked is not the same one), or when it claims acks of this epoch for a journal that the
    store has never seen, and shows nothing else that the store has forgotten.
    """
    refusal = judge_version(hello.protocol)
    if refusal is not None:
        return refusal
    outbox = hello.outbox
    held = record.acked_through if record is not None else 0
    if record is not None and (held > outbox.head or _differ(record, outbox)):
        return _rekey("this agent's journal is an older copy or a clone")
    if held >= outbox.acked:
        digest = None if record is None else record.acked_hash
        return Accepted(acked_through=held, acked_hash=digest, new_journal=record is None)
    told = outbox.epoch or hello.applied_epoch
    elsewhere = told is not None and told != holding.epoch
    if record is None and not elsewhere and not _forgotten(hello, holding):
        return _rekey("the server has never seen this agent's journal, though it says that its reports were acked")
    return Accepted(
        acked_through=outbox.acked,
        acked_hash=outbox.acked_hash,
        new_journal=record is None,
        behind=True,
        old_copy=not elsewhere,  # acked in another epoch: that this store is not the one of then is known already
    )


def _forgotten(hello: Hello, holding: Holding) -> bool:
    """Return whether the agent has a schedule set of this epoch that the store, as it is, has not made yet."""
    return hello.applied_epoch == holding.epoch and hello.applied_version > holding.version


def _rekey(why: str) -> Refused:
    return Refused(
        code="rekey", message=f"{why}: it takes a new journal id and reports again", retry=True, retry_after=0
    )


def _differ(record: JournalRecord, outbox: OutboxHead) -> bool:
    return (
        record.acked_through == outbox.acked
        and record.acked_hash is not None
        and outbox.acked_hash is not None
        and record.acked_hash != outbox.acked_hash
    )


def welcome_fits(welcome: Welcome, outbox: OutboxHead, own_hash: str | None) -> bool:
    """Given the server's welcome and our own hash of the report it names, return whether ours is its continuation.

    own_hash is None when we no longer hold that report (it was acked before); then the hello already compared it.
    """
    if welcome.acked_through > outbox.head:
        return False
    return own_hash is None or welcome.acked_hash is None or own_hash == welcome.acked_hash


def judge_sequence(acked_through: int, seq: int, *, gap_allowed: bool = False) -> Literal["next", "repeat", "gap"]:
    """Given how far we are and the sequence that came, return whether to apply it, adopt it silently, or complain.

    gap_allowed: in a new epoch the first report may lie further on; it is then the next.
    """
    if seq <= acked_through:
        return "repeat"
    if seq == acked_through + 1 or gap_allowed:
        return "next"
    return "gap"
