"""The wire's shapes as msgspec sees them: every message and struct, each field in words, and values made at random.

What the document must say and what the random tests build come from the same place: the classes themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as mi

from restic_manager.domain.model import RepoAccess
from restic_manager.protocol import codec
from restic_manager.protocol.codec import Decoder, WireError, encode_entry
from restic_manager.protocol.messages import (
    Announce,
    Announced,
    Challenge,
    Entry,
    FromAgent,
    FromServer,
    Join,
    Joined,
    Message,
    Refused,
    ScheduleSet,
)

MESSAGES: Final[dict[str, type[Message]]] = {str(cls.__struct_config__.tag): cls for cls in Message.__subclasses__()}
"""Every message there is, by its tag."""
DIRECTIONS: Final[dict[str, Any]] = {
    "agent": FromAgent,
    "server": FromServer,
    "join-agent": Join,
    "join-server": Joined | Refused,
    "announce-agent": Announce,
    "announce-server": Challenge | Announced | Joined | Refused,
}
"""Which messages may be said by whom, on `/agent`, on `/join` and on `/announce`."""
DECODERS: Final = {
    "agent": codec.from_agent,
    "server": codec.from_server,
    "join-agent": codec.join_request,
    "join-server": codec.join_answer,
    "announce-agent": codec.announce_request,
    "announce-server": codec.announce_answer,
}
"""What reads them, by who said them."""


def members(union: Any) -> tuple[type[Message], ...]:
    """Given a direction's union, return its classes."""
    return tuple(getattr(union, "__args__", (union,)))


def structs() -> dict[str, type[msgspec.Struct]]:
    """Return every struct that is inside some message (entries of a schedule set too) and is none itself, by name."""
    found: dict[str, type[msgspec.Struct]] = {}

    def walk(type_: mi.Type) -> None:
        match type_:
            case mi.StructType(cls=cls, fields=fields):
                if not issubclass(cls, Message):
                    if cls.__name__ in found:
                        return
                    found[cls.__name__] = cls
                for field in fields:
                    walk(field.type)
            case mi.UnionType(types=types):
                for one in types:
                    walk(one)
            case mi.VarTupleType(item_type=item):
                walk(item)

    for cls in (*MESSAGES.values(), Entry):
        walk(mi.type_info(cls))
    return found


def fields_of(cls: type[msgspec.Struct]) -> tuple[mi.Field, ...]:
    """Given a message or struct, return its fields."""
    info = mi.type_info(cls)
    assert isinstance(info, mi.StructType)
    return info.fields


def result(frame: str, decoder: Decoder) -> Any:
    """Given a frame, return its message or the WireError it is."""
    try:
        return decoder.decode(frame)
    except WireError as error:
        return error


def comparable(message: Any) -> Any:
    """Return the message with raw entries as bytes: msgspec compares Raw by identity."""
    if isinstance(message, ScheduleSet):
        entries = tuple(bytes(memoryview(raw)) for raw in message.entries)
        return (msgspec.structs.replace(message, entries=()), entries)
    return message


# -- in words ---------------------------------------------------------------------------------------------------------


def described(type_: mi.Type) -> str:  # noqa: C901, PLR0911, PLR0912 - one case a kind of JSON value
    """Given a field's type, return it in the words of the document: what JSON it is, and its bounds."""
    match type_:
        case mi.UnionType(types=types):
            known = [one for one in types if not isinstance(one, mi.NoneType)]
            words = " or ".join(described(one) for one in known)
            return words if len(known) == len(types) else f"{words}, or null"
        case mi.StrType(pattern=str() as pattern):
            return f"string matching `{pattern}`"
        case mi.StrType(min_length=least, max_length=most):
            return "string" + _range(least, most, " characters")
        case mi.BytesType(max_length=most):
            return "base64" + _range(None, most, " bytes")
        case mi.IntType(ge=least, le=most):
            return "integer" + _range(least, most)
        case mi.FloatType(ge=least, gt=None, le=most):
            return "number" + _range(least, most)
        case mi.FloatType(gt=above, le=most):
            return f"number (above {above:,}, at most {most:,})"
        case mi.BoolType():
            return "boolean"
        case mi.DateTimeType():
            return "instant"
        case mi.EnumType(cls=cls):
            return "one of " + ", ".join(f"`{one.value}`" for one in cls)
        case mi.LiteralType(values=values):
            return "one of " + ", ".join(f"`{one}`" for one in sorted(map(str, values)))
        case mi.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case mi.RawType():
            return "[Entry](#entry)"
        case mi.VarTupleType(item_type=item, min_length=least, max_length=most):
            return f"array{_range(least, most)} of {described(item)}"
        case mi.DictType(key_type=key, value_type=value, max_length=most):
            return f"object{_range(None, most, ' pairs')} of {described(key)} to {described(value)}"
    raise AssertionError(f"no words for {type_!r}")


def required(field: mi.Field) -> str:
    """Given a field, return `yes`, or what its absence means."""
    if field.required:
        return "yes"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"no: `{msgspec.json.encode(default).decode()}`" if not isinstance(default, msgspec.Struct) else "no"


def _range(least: float | None, most: float | None, unit: str = "") -> str:
    if most is None:
        return "" if least is None else f" (at least {least:,}{unit})"
    return f" (at most {_number(most)}{unit})" if least is None else f" ({least:,} to {_number(most)}{unit})"


def _number(value: float) -> str:
    return "2^53" if value == 2**53 else f"{value:,}"


# -- at random --------------------------------------------------------------------------------------------------------

_TEXT: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def messages(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Given a message or struct, return a strategy of its values: every one of them may go over the wire."""
    return _values(mi.type_info(cls))


def _values(type_: mi.Type) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911, PLR0912 - one case a kind of JSON value
    match type_:
        case mi.StructType(cls=cls):
            return _struct(cls)
        case mi.UnionType(types=types):
            return st.one_of(*(_values(one) for one in types))
        case mi.NoneType():
            return st.none()
        case mi.StrType(pattern=str() as pattern):
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: not text.endswith("\n"))
        case mi.StrType(min_length=least, max_length=most):
            return st.text(_TEXT, min_size=least or 0, max_size=min(most or 40, 40))
        case mi.BytesType():
            return st.binary(max_size=40)
        case mi.IntType(ge=least, le=most):
            return st.integers(least, most)
        case mi.FloatType(ge=least, gt=above, le=most):
            lower = least if above is None else above
            return st.floats(
                lower, most, exclude_min=above is not None, allow_nan=False, allow_infinity=False, allow_subnormal=False
            )
        case mi.BoolType():
            return st.booleans()
        case mi.DateTimeType():
            return st.datetimes(datetime(1970, 1, 1), datetime(9989, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone itself
        case mi.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case mi.LiteralType(values=values):
            return st.sampled_from(sorted(map(str, values)))
        case mi.RawType():
            return messages(Entry).map(encode_entry)
        case mi.VarTupleType(item_type=item, min_length=least):
            return st.lists(_values(item), min_size=least or 0, max_size=(least or 0) + 2).map(tuple)
        case mi.DictType(key_type=key, value_type=value):
            return st.dictionaries(_values(key), _values(value), max_size=3)
    raise AssertionError(f"no values for {type_!r}")


@functools.cache
def _struct(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    fields = fields_of(cls)
    needed = {field.name: _values(field.type) for field in fields if field.required}
    rest = {field.name: _values(field.type) for field in fields if not field.required}
    fitted = _FITTED.get(cls, dict)
    return st.fixed_dictionaries(needed, optional=rest).map(lambda given: cls(**fitted(given)))


def _access(given: dict[str, Any]) -> dict[str, Any]:
    """Given any fields of an access, return those that go together."""
    one = "password" if given.get("password") is not None or given.get("password_from") is None else "password_from"
    other = {"password": "password_from", "password_from": "password"}[one]
    env, env_from = given.get("env", {}), given.get("env_from", {})
    fitting = {**given, one: given.get(one) or "x", "env": env}
    fitting["env_from"] = {name: value for name, value in env_from.items() if name not in env}
    return {name: value for name, value in fitting.items() if name != other}


_FITTED: Final[dict[type[msgspec.Struct], Callable[[dict[str, Any]], dict[str, Any]]]] = {RepoAccess: _access}
"""Of structs whose fields depend on each other."""
