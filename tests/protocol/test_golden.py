"""The encoding, byte for byte. A golden file that has to change is a change of the wire: other agents see it too."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import inspect as mi

from restic_manager.domain.model import Status
from restic_manager.protocol import codec
from restic_manager.protocol.messages import DURABLE_TYPES, Entry, Message, ScheduleSet
from tests.protocol import shapes
from tests.protocol.samples import GOLDEN, SAMPLES
from tests.protocol.shapes import DECODERS, comparable


def tag_of(message: Message) -> str:
    return str(type(message).__struct_config__.tag)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_bytes(name: str) -> None:
    message = SAMPLES[name]
    held = (GOLDEN / f"{name}.json").read_bytes()
    assert held == codec.encode(message).encode() + b"\n"
    frame = held.decode().removesuffix("\n")
    speakers = [speaker for speaker, union in shapes.DIRECTIONS.items() if isinstance(message, shapes.members(union))]
    assert speakers
    for speaker in speakers:
        assert comparable(DECODERS[speaker].decode(frame)) == comparable(message)


def test_each_file_has_its_message() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.json" for name in SAMPLES}


@pytest.mark.parametrize("tag", shapes.MESSAGES)
def test_each_message_has_its_file(tag: str) -> None:
    """A new message class fails here until its encoding is pinned: plain, and with every optional field filled in."""
    assert tag_of(SAMPLES[tag]) == tag
    if any(not field.required for field in shapes.fields_of(shapes.MESSAGES[tag])):
        assert tag_of(SAMPLES[f"{tag}.full"]) == tag


def test_names_say_what_is_inside() -> None:
    for name, message in SAMPLES.items():
        assert name == tag_of(message) or name.startswith(tag_of(message) + ".")


def _held(value: object, found: dict[str, set[str]]) -> None:
    """Collect, by class, the fields that hold anything but their default somewhere."""
    if isinstance(value, msgspec.Raw):
        _held(codec.decode_entry(value), found)
    elif isinstance(value, msgspec.Struct):
        seen = found.setdefault(type(value).__name__, set())
        for field in shapes.fields_of(type(value)):
            held = getattr(value, field.name)
            if field.required or held != _default(field):
                seen.add(field.name)
            _held(held, found)
    elif isinstance(value, tuple):
        for item in value:
            _held(item, found)


def _default(field: mi.Field) -> object:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def test_every_field_of_every_struct_is_pinned() -> None:
    found: dict[str, set[str]] = {}
    for message in SAMPLES.values():
        _held(message, found)
    for cls in (*shapes.MESSAGES.values(), *shapes.structs().values()):
        assert found[cls.__name__] == {field.name for field in shapes.fields_of(cls)}, cls.__name__


def test_plain_samples_leave_out_what_may_be_left_out() -> None:
    """A peer may leave every optional field away: what is decoded then is the plain sample."""
    for tag, cls in shapes.MESSAGES.items():
        frame = json.loads(codec.encode(SAMPLES[tag]))
        for field in shapes.fields_of(cls):
            if not field.required:
                del frame[field.encode_name]
        speaker = next(one for one, union in shapes.DIRECTIONS.items() if cls in shapes.members(union))
        assert comparable(DECODERS[speaker].decode(json.dumps(frame))) == comparable(SAMPLES[tag]), tag


def test_durable_types_are_those_with_a_sequence() -> None:
    with_seq = {tag for tag, cls in shapes.MESSAGES.items() if "seq" in cls.__struct_fields__}
    assert with_seq == DURABLE_TYPES
    for tag in with_seq:
        assert next(iter(json.loads(codec.encode(SAMPLES[tag])))) == "type"


def test_entries_are_pinned_raw() -> None:
    message = SAMPLES["schedule.set.full"]
    assert isinstance(message, ScheduleSet)
    assert [type(codec.decode_entry(raw)) for raw in message.entries] == [Entry, Entry]


def test_the_words_of_enums_are_what_travels() -> None:
    """StrEnum members travel as their values: the document and other agents know these words."""
    assert [json.loads(msgspec.json.encode(status)) for status in Status] == [
        "queued", "running", "succeeded", "warning", "failed", "cancelled", "interrupted",
    ]  # fmt: skip
