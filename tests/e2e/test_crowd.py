"""Several hosts on one repository, with real restic, for long enough that every kind meets every other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crowd import gather
from tests.support.restic_binaries import REAL_RESTICS, RealRestic

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("real", REAL_RESTICS[-1:])
def test_nobody_gets_in_anybodys_way(tmp_path: Path, real: RealRestic) -> None:
    crowd = gather(tmp_path, agents=4, seconds=40, every=5, max_parallel=2, real=real)
    assert crowd.wrong == []
    assert crowd.jobs["backup succeeded"] >= 16
    assert crowd.jobs["forget succeeded"] >= 4
    assert crowd.most_at_once == 2
