"""Frames to messages and back. Owns the one place where bytes from a peer become typed values, or one error.

Everything that can go wrong in a frame (no JSON, nesting, surrogates, a bad field, an instant that overflows, a NUL)
comes out as `WireError`, which says whether the session can go on. It decides nothing about what a message means.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

import msgspec

from restic_manager.domain.errors import ManagerError
from restic_manager.protocol import messages
from restic_manager.protocol.messages import MAX_MESSAGE, Entry, Message

T = TypeVar("T")

WireCode = Literal["not_json", "too_large", "unknown_type", "invalid"]

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9990, 1, 1, tzinfo=UTC)
_DECODE_ERRORS: Final = (msgspec.DecodeError, RecursionError, UnicodeError, ValueError, OverflowError)


class WireError(ManagerError):
    """A frame that is not a message we accept.

    not_json, too_large: the frame is not from a peer of ours; close. unknown_type, invalid: answer with `error` and go
    on; `type` and `seq` are what the envelope gave, so that a durable report can be acked and quarantined.
    """

    default_code = "invalid"

    def __init__(self, message: str, *, code: WireCode, type_: str | None = None, seq: int | None = None) -> None:
        super().__init__(message[:600], code=code)
        self.type = type_
        self.seq = seq

    @property
    def fatal(self) -> bool:
        """Whether the session has to be closed."""
        return self.code in {"not_json", "too_large"}

    @property
    def durable(self) -> bool:
        """Whether this was a durable report, which the peer repeats until it is acked."""
        return self.type in messages.DURABLE_TYPES and self.seq is not None


class _Envelope(msgspec.Struct):
    type: str
    seq: msgspec.Raw = msgspec.Raw(b"null")


class _Named(msgspec.Struct):
    schedule_id: str = "?"


_encoder = msgspec.json.Encoder()
_envelope = msgspec.json.Decoder(_Envelope)
_entry = msgspec.json.Decoder(Entry)
_named = msgspec.json.Decoder(_Named)
_SEQ: Final = re.compile(rb"[1-9][0-9]{0,15}")
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL in JSON that has been found valid: its backslash is not itself escaped. The text is searched, because
a second decoding could fail on what the first one only skipped (nesting, huge numbers)."""


def encode(message: Message) -> str:
    """Given a message, return its frame."""
    return _encoder.encode(message).decode("utf-8")


def encode_entry(entry: Entry) -> msgspec.Raw:
    """Given a schedule entry, return it raw, as `ScheduleSet.entries` carries it."""
    return msgspec.Raw(_encoder.encode(entry))


class Decoder:
    """Frames of one direction to messages of that direction."""

    def __init__(self, union: Any, *, limit: int = MAX_MESSAGE) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union)
        self._types = _tags(union)
        self._limit = limit

    def decode(self, frame: str) -> Any:
        """Given a frame, return its message; raise WireError if it is none of this direction's."""
        if len(frame) > self._limit:
            raise WireError(f"a frame of {len(frame)} characters (limit {self._limit})", code="too_large")
        try:
            message = self._decoder.decode(frame)
            _check(message)
        except _DECODE_ERRORS as error:
            raise self._explain(frame, error) from None
        if "\\u0000" in frame and _NUL.search(frame):
            raise WireError(
                "a NUL character inside a string",
                code="invalid",
                type_=_tag(message),
                seq=getattr(message, "seq", None),
            )
        return message

    def _explain(self, frame: str, error: Exception) -> WireError:
        try:
            envelope = _envelope.decode(frame)
        except msgspec.ValidationError:
            return WireError("not an object with a type", code="not_json")
        except _DECODE_ERRORS as envelope_error:
            return WireError(f"not JSON: {str(envelope_error)[:200]}", code="not_json")
        shown = envelope.type[:64].replace("\0", "?")
        if envelope.type not in self._types:
            return WireError(f"unknown message type {shown!r}", code="unknown_type", type_=shown)
        return WireError(f"{shown}: {str(error)[:400]}", code="invalid", type_=shown, seq=_seq(envelope.seq))


def decode_entry(raw: msgspec.Raw) -> Entry:
    """Given one raw entry of a `schedule.set`, return it; raise WireError if this one cannot be used."""
    try:
        entry = _entry.decode(raw)
        _check(entry)
    except _DECODE_ERRORS as error:
        raise WireError(str(error)[:400], code="invalid") from None
    return entry


def entry_id(raw: msgspec.Raw) -> str:
    """Given a raw entry that may be unusable, return its schedule id as far as it has one, else a question mark."""
    try:
        return _named.decode(raw).schedule_id[:64]
    except _DECODE_ERRORS:
        return "?"


def _tags(union: Any) -> frozenset[str]:
    members = union.__args__ if hasattr(union, "__args__") else (union,)
    return frozenset(str(member.__struct_config__.tag) for member in members)


def _tag(message: Any) -> str:
    return str(type(message).__struct_config__.tag)


def _seq(raw: msgspec.Raw) -> int | None:
    """Given what an envelope says of a sequence, return it if it is one: never a boolean, a float or too large."""
    text = bytes(memoryview(raw))
    seq = int(text) if _SEQ.fullmatch(text) else 0
    return seq if 1 <= seq <= 2**53 else None


@functools.cache
def _fields_to_check(struct: type) -> tuple[str, ...]:
    """Names of the fields that may hold an instant, at any depth: found once a class, most messages have few."""
    return tuple(
        field.name
        for field in msgspec.structs.fields(struct)
        if any(word in str(field.type) for word in ("datetime", "restic_manager"))
    )


def _check(value: Any) -> None:
    """Raise ValueError on an instant outside 1970 to 9989: later arithmetic with it would overflow."""
    if isinstance(value, datetime):
        if not _EARLIEST <= value < _LATEST:
            raise ValueError("an instant outside the years 1970 to 9989")
    elif isinstance(value, msgspec.Struct):
        for name in _fields_to_check(type(value)):
            _check(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            _check(item)


from_agent: Final = Decoder(messages.FromAgent)
"""What the server reads on `/agent`."""
from_server: Final = Decoder(messages.FromServer)
"""What the agent reads on `/agent`."""
join_request: Final = Decoder(messages.Join)
"""What the server reads on `/join`."""
join_answer: Final = Decoder(messages.Joined | messages.Refused)
"""What the agent reads on `/join`."""
announce_request: Final = Decoder(messages.Announce)
"""What the server reads on `/announce`."""
announce_answer: Final = Decoder(messages.Challenge | messages.Announced | messages.Joined | messages.Refused)
"""What the agent reads on `/announce`."""
