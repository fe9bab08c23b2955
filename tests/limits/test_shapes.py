"""Every bound that is written into a type: at its edge a value passes, just past it none does.

Of messages and of operators' requests. Nothing is listed here: the types themselves say which bounds they have, so that
a new field is tested by being there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from msgspec import inspect as mi

from restic_manager.domain.model import RepoAccess
from restic_manager.protocol import codec
from restic_manager.protocol.codec import WireError
from restic_manager.protocol.messages import Entry
from restic_manager.server.api.app import operations
from tests.protocol import shapes

Case = tuple[str, Any, Any]
"""Where, a value at the edge, and one just past it."""

REQUESTS: Final = {one.request.__name__: one.request for one in operations() if one.request is not None}
ONLY_BY_THE_FRAME: Final = {
    "job.log.text": "its agent cuts it at MAX_LOG_TEXT; of one job the server keeps logs.CAP",
    "schedule.ack.refused": "as many as the entries it answers",
}
"""Lists and texts of agents whose only bound is that of the message, and why; beside the rows of listings, which say
what a repository says, and of which the server keeps listings.MAX_TEXT.
"""


ONE_OF: Final[dict[type, tuple[str, ...]]] = {RepoAccess: ("password", "password_from")}
"""Of these fields exactly one is there: the first, where nothing is said of the others."""


def minimal(type_: mi.Type) -> Any:  # noqa: C901, PLR0911, PLR0912 - one case a kind of JSON value
    """Return a value of this type, as plain data, with nothing in it that need not be."""
    match type_:
        case mi.StructType(cls=cls, fields=fields):
            tag = {cls.__struct_config__.tag_field: cls.__struct_config__.tag} if cls.__struct_config__.tag else {}
            chosen = ONE_OF.get(cls, ())[:1]
            return tag | {
                field.encode_name: minimal(field.type) or "x" if field.name in chosen else minimal(field.type)
                for field in fields
                if field.required or field.name in chosen
            }
        case mi.UnionType(types=types):
            return None if any(isinstance(one, mi.NoneType) for one in types) else minimal(types[0])
        case mi.StrType(pattern=str() as pattern, max_length=most):
            return _matching(pattern, most)
        case mi.StrType(min_length=least):
            return "x" * (least or 0)
        case mi.IntType(ge=least, gt=above):
            return least if least is not None else 0 if above is None else above + 1
        case mi.FloatType(ge=least, gt=above):
            return least if least is not None else 0.0 if above is None else above + 0.5
        case mi.BoolType():
            return False
        case mi.DateTimeType():
            return "2026-01-01T00:00:00Z"
        case mi.EnumType(cls=cls):
            return next(iter(cls)).value
        case mi.LiteralType(values=values):
            return values[0]
        case mi.VarTupleType(item_type=item, min_length=least):
            return [minimal(item)] * (least or 0)
        case mi.RawType():
            return {}
        case mi.BytesType():
            return ""
        case mi.DictType():
            return {}
        case mi.NoneType():
            return None
    raise AssertionError(f"no value for {type_!r}")


def _matching(pattern: str, most: int | None) -> str:
    known = {
        "^[0-9a-f]{64}$": "0" * 64,
        "^[a-z2-7]{52}$": "a" * 52,
        "^[a-z2-7]{103}$": "a" * 103,
        "^[0-9a-f]{8,64}$": "0" * 8,
    }
    return known.get(pattern) or {"^([0-9]{1,5}[ymdh]){1,4}$": "1y"}.get(pattern) or "0" * (most or 1)


def edges(type_: mi.Type, where: str) -> Iterator[Case]:  # noqa: C901, PLR0912 - one case a kind of JSON value
    match type_:
        case mi.StructType(cls=cls, fields=fields):
            for field in fields:
                base = minimal(type_)
                if field.name in ONE_OF.get(cls, ()):
                    base = {name: held for name, held in base.items() if name not in ONE_OF[cls]}
                for place, at, past in edges(field.type, f"{where}.{field.encode_name}"):
                    yield place, base | {field.encode_name: at}, base | {field.encode_name: past}
        case mi.UnionType(types=types):
            for one in types:
                kind = one.cls.__struct_config__.tag if isinstance(one, mi.StructType) else None
                yield from edges(one, where if kind is None else f"{where}<{kind}>")
        case mi.StrType(pattern=None, min_length=least, max_length=most):
            if most is not None:
                yield f"{where} longest", "é" * most, "é" * (most + 1)
            if least:
                yield f"{where} shortest", "x" * least, "x" * (least - 1)
        case mi.IntType(ge=least, le=most):
            if most is not None:
                yield f"{where} most", most, most + 1
            if least is not None:
                yield f"{where} least", least, least - 1
        case mi.FloatType(ge=least, gt=above, le=most):
            if most is not None:
                yield f"{where} most", float(most), most * 1.001 + 0.001
            if least is not None:
                yield f"{where} least", float(least), least - 0.001
            if above is not None:
                yield f"{where} above", above + 0.001, float(above)
        case mi.VarTupleType(item_type=item, min_length=least, max_length=most):
            one = minimal(item)
            if most is not None:
                yield f"{where} most", [one] * most, [one] * (most + 1)
            if least:
                yield f"{where} least", [one] * least, [one] * (least - 1)
            for place, at, past in edges(item, f"{where}.*"):
                rest = [one] * max(0, (least or 0) - 1)
                yield place, [at, *rest], [past, *rest]
        case mi.DictType(key_type=key, value_type=value, max_length=most):
            if most is not None:
                pairs = {f"k{number}": minimal(value) for number in range(most + 1)}
                yield f"{where} most", dict(list(pairs.items())[:most]), pairs
            for place, at, past in edges(key, f"{where}.key"):
                yield place, {at: minimal(value)}, {past: minimal(value)}
            for place, at, past in edges(value, f"{where}.value"):
                yield place, {"k": at}, {"k": past}


def cases(types: dict[str, Any]) -> list[Any]:
    """Return every bound there is in these types, once."""
    found = {case[0]: case for name, cls in types.items() for case in edges(mi.type_info(cls), name)}
    return [pytest.param(case, id=name) for name, case in found.items()]


SAID_BY: Final = {
    str(cls.__struct_config__.tag): shapes.DECODERS[speaker]
    for speaker, union in shapes.DIRECTIONS.items()
    for cls in shapes.members(union)
}


@pytest.mark.parametrize("case", cases(shapes.MESSAGES))
def test_of_messages(case: Case) -> None:
    place, at, past = case
    decoder = SAID_BY[at["type"]]
    assert decoder.decode(json.dumps(at, ensure_ascii=False)) is not None, place
    with pytest.raises(WireError) as caught:
        decoder.decode(json.dumps(past, ensure_ascii=False))
    assert caught.value.code == "invalid"


@pytest.mark.parametrize("case", cases({"entry": Entry}))
def test_of_entries(case: Case) -> None:
    _, at, past = case
    codec.decode_entry(msgspec.Raw(json.dumps(at).encode()))
    with pytest.raises(WireError):
        codec.decode_entry(msgspec.Raw(json.dumps(past).encode()))


@pytest.mark.parametrize("case", cases(REQUESTS))
def test_of_operators_requests(case: Case) -> None:
    place, at, past = case
    cls = REQUESTS[place.partition(".")[0]]
    msgspec.json.decode(json.dumps(at).encode(), type=cls)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(past).encode(), type=cls)


def unbounded(type_: mi.Type, where: str) -> Iterator[str]:
    """Return where texts and lists have no bound of their own."""
    match type_:
        case mi.StructType(fields=fields):
            for field in fields:
                yield from unbounded(field.type, f"{where}.{field.encode_name}")
        case mi.UnionType(types=types):
            for one in types:
                yield from unbounded(one, where)
        case mi.StrType(pattern=None, max_length=None):
            yield where
        case mi.VarTupleType(item_type=item, max_length=most):
            if most is None:
                yield where
            yield from unbounded(item, f"{where}.*")
        case mi.DictType(max_length=None):
            yield where


def test_what_only_the_frame_bounds_is_known() -> None:
    """A field that an agent can fill without end is a decision, not an oversight."""
    from_agents = {str(cls.__struct_config__.tag): cls for cls in shapes.members(shapes.DIRECTIONS["agent"])}
    found = {where for name, cls in from_agents.items() for where in unbounded(mi.type_info(cls), name)}
    assert {where for where in found if not where.startswith("job.rows.rows.")} == set(ONLY_BY_THE_FRAME)
