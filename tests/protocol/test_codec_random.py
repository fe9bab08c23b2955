"""The codec at random: every message comes back as it was, and damage gets past it only as a WireError."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from restic_manager.protocol import codec
from restic_manager.protocol.codec import Decoder, WireError
from restic_manager.protocol.messages import DURABLE_TYPES, Entry, FromAgent, FromServer
from tests.protocol import shapes
from tests.protocol.samples import SAMPLES
from tests.protocol.shapes import DECODERS, comparable, result


class TestRoundTrip:
    @pytest.mark.parametrize("cls", shapes.members(FromAgent), ids=lambda cls: cls.__name__)
    def test_from_agent(self, cls: type[msgspec.Struct]) -> None:
        _round_trip(cls, codec.from_agent)

    @pytest.mark.parametrize("cls", shapes.members(FromServer), ids=lambda cls: cls.__name__)
    def test_from_server(self, cls: type[msgspec.Struct]) -> None:
        _round_trip(cls, codec.from_server)

    @pytest.mark.parametrize("speaker", ["join-agent", "join-server"])
    def test_joining(self, speaker: str) -> None:
        for cls in shapes.members(shapes.DIRECTIONS[speaker]):
            _round_trip(cls, DECODERS[speaker])

    @settings(max_examples=30, deadline=None)
    @given(shapes.messages(Entry))
    def test_entries(self, entry: Entry) -> None:
        assert codec.decode_entry(codec.encode_entry(entry)) == entry


def _round_trip(cls: type[msgspec.Struct], decoder: Decoder) -> None:
    @settings(max_examples=30, deadline=None)
    @given(shapes.messages(cls))
    def holds(message: Any) -> None:
        frame = codec.encode(message)
        assert comparable(decoder.decode(frame)) == comparable(message)
        assert codec.encode(decoder.decode(frame)) == frame
        assert json.loads(frame)["type"] == cls.__struct_config__.tag

    holds()


FRAMES = [codec.encode(message) for message in SAMPLES.values()]
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**53, 2**63, 2**64, 10**30, 0.5, -0.0, math.pi, "", "x", "\0", "x" * 300, "queued",
    "2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
    [], {}, [[]], {"kind": "backup"},
]  # fmt: skip


def survives(frame: str) -> None:
    """Whatever the frame: a message of the direction, or a WireError with one of the four codes."""
    for speaker, decoder in DECODERS.items():
        message = result(frame, decoder)
        if isinstance(message, WireError):
            assert message.code in {"not_json", "too_large", "unknown_type", "invalid"}
            assert message.durable == (message.type in DURABLE_TYPES and message.seq is not None)
            assert not (message.fatal and message.durable)
            continue
        assert isinstance(message, shapes.members(shapes.DIRECTIONS[speaker]))
        assert comparable(decoder.decode(codec.encode(message))) == comparable(message)
        for raw in getattr(message, "entries", ()):
            try:
                assert isinstance(codec.decode_entry(raw), Entry)
            except WireError:
                assert len(codec.entry_id(raw)) <= 64


class TestMutations:
    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(FRAMES), st.randoms(use_true_random=False))
    def test_of_characters(self, frame: str, chance: random.Random) -> None:
        text = list(frame)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text))
            match chance.randrange(4):
                case 0:
                    del text[at : at + chance.randint(1, 3)]
                case 1:
                    text.insert(
                        at,
                        chance.choice(
                            [
                                '"',
                                "\\",
                                "{",
                                "}",
                                "[",
                                "]",
                                ",",
                                ":",
                                "0",
                                "\\u0000",
                                "\\ud800",
                                "\ud800",
                                "\0",
                                "e9",
                                "é",
                            ]
                        ),
                    )
                case 2:
                    other = chance.randrange(len(text))
                    text[at], text[other] = text[other], text[at]
                case _:
                    text[at] = chr(chance.randrange(0x250))
        survives("".join(text))

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(FRAMES), st.randoms(use_true_random=False))
    def test_of_values(self, frame: str, chance: random.Random) -> None:
        tree = json.loads(frame)
        for _ in range(chance.randint(1, 3)):
            holder, key = chance.choice(list(_spots(tree)) or [([None], 0)])
            match chance.randrange(4):
                case 0 if isinstance(holder, dict):
                    del holder[key]
                case 1:
                    holder[key] = [holder[key]] * chance.randint(0, 3)
                case _:
                    holder[key] = copy.deepcopy(chance.choice(_VALUES))  # what is put in may be changed again
        survives(json.dumps(tree))

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    @example({"type": "hello", "seq": []})
    def test_of_everything(self, value: object) -> None:
        survives(json.dumps(value))
        survives(json.dumps({"type": "job.log", "seq": value, "text": value}))

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=200))
    def test_of_any_text(self, text: str) -> None:
        survives(text)


def _spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _spots(tree[key])
