"""A short play in every run of the tests; `python -m tests.chaos` plays longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.play import play
from tests.support.restic_binaries import newest


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    played = play(tmp_path, seed=20_260_301, kills=12, real=newest())
    assert played.faults.total() == 12
    assert played.wrong == [], played.told()
    assert played.fates["ran"] >= 5
