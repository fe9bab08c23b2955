"""A backup's whole life, once for each version of restic and each kind of storage (`story` tells all nine)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.story import STORAGES, tell
from tests.support.restic_binaries import REAL_RESTICS, RealRestic, needs_rest_server

pytestmark = [pytest.mark.timeout(300), needs_rest_server]


@pytest.mark.parametrize("real", REAL_RESTICS)
def test_a_backups_whole_life(tmp_path: Path, real: RealRestic) -> None:
    versions = ["0.14.0", "0.18.0", "0.19.1"]
    told = tell(tmp_path, real, STORAGES[versions.index(real.version) % len(STORAGES)])
    assert len(told.steps) == 13
