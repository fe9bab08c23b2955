"""Some stories in every test run, and proof that the books would show a mistake."""

from __future__ import annotations

from typing import Any

import pytest

from restic_manager.domain import planning
from restic_manager.server import reports
from tests.simulation.story import PAUSES, faults_of, play

pytestmark = pytest.mark.timeout(240)

HOURS, HOSTS = 5.0, 2


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_every_slot_has_one_fate_whatever_dies(seed: int) -> None:
    faults = faults_of(seed, hours=HOURS, hosts=HOSTS)
    result = play(seed, faults, hours=HOURS, hosts=HOSTS)
    assert result.violations == []
    assert result.slots > 40


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_slot_has_one_fate_whatever_pauses_end_when(seed: int) -> None:
    kinds = ("partition", "kill_agent", "kill_server", *PAUSES, *PAUSES)
    result = play(seed, faults_of(seed, hours=8, hosts=HOSTS, kinds=kinds), hours=8, hosts=HOSTS)
    assert result.violations == []
    assert result.faults["pause"] > 0


class TestPlantedMistakes:
    """Each is a mistake somebody could make; seed 1 shows it."""

    def violations(self) -> str:
        faults = faults_of(1, hours=HOURS, hosts=HOSTS)
        return "\n".join(play(1, faults, hours=HOURS, hosts=HOSTS).violations)

    def test_slots_that_coalesce_silently(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(planning._Draft, "close_range", lambda *_args, **_words: None)
        assert "is unexplained" in self.violations()

    def test_reports_acked_but_not_applied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        apply = reports._Batch._apply

        def lossy(self: Any, report: Any) -> None:
            if report.seq % 5:
                apply(self, report)

        monkeypatch.setattr(reports._Batch, "_apply", lossy)
        assert "for ever" in self.violations()
