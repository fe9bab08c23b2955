"""A few thousand hostile messages on every change; a million by `python -m tests.hostile`. And the mutator itself."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from restic_manager.protocol.codec import WireError, from_agent
from restic_manager.protocol.messages import FromAgent
from tests.hostile.mutate import Known, Mutator
from tests.hostile.play import play


def known() -> Known:
    return Known("host", ["schedule"], ["theirs"], jobs=["job"], others=["foreign-job"])


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same messages for the same seed


def test_the_same_seed_says_the_same() -> None:
    def said(seed: int) -> list[int]:
        return [len(payload) for payload in Mutator(dice(seed), known()).batch(200)]

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_it_reaches_everything() -> None:
    """Every type that an agent may say gets through whole, and damaged; and what closes a link is a small part."""
    mutator = Mutator(dice(8), known())
    whole: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for _ in range(150):
        for payload in mutator.batch(64):
            try:
                whole[type(from_agent.decode(payload.decode())).__name__] += 1
            except WireError as error:
                wrong[error.code] += 1
            except UnicodeError:
                wrong["bytes"] += 1
    assert set(whole) == {one.__name__ for one in get_args(FromAgent)}
    assert min(whole.values()) > 20
    assert set(wrong) == {"invalid", "unknown_type", "not_json", "bytes"}
    assert wrong["invalid"] > 1_000
    assert wrong["not_json"] + wrong["bytes"] < 150


@pytest.mark.timeout(400)
def test_the_server_stays_up_fair_and_small(tmp_path: Path) -> None:
    played = play(tmp_path, messages=4_000, seed=5)
    assert played.wrong == [], played.told()
    assert played.messages >= 4_000
    assert len(played.runs) >= 2
    assert played.answers["command.run"] > 0, "the hostile never got as far as to be trusted with a job"
