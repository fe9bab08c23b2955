"""How slots are told to the server: a fire, and a fate that makes no job.

Pure. Refuses to know when that is, and how it travels.
"""

from __future__ import annotations

from restic_manager.agent.gaps import Gaps
from restic_manager.agent.records import MakeReport
from restic_manager.domain.model import Fate
from restic_manager.domain.planning import Decided, Fire
from restic_manager.protocol.messages import ScheduleFire, SlotDecided


def fire_message(schedule_id: str, fire: Fire) -> ScheduleFire:
    """Given a schedule and its pending fire, return what is sent of it."""
    return ScheduleFire(
        schedule_id=schedule_id,
        revision=fire.revision,
        scheduled_at=fire.slot,
        trigger=fire.trigger,
        stands_for=fire.stands_for,
        evidence=fire.evidence,
    )


def fate_report(schedule_id: str, item: Decided, gaps: Gaps) -> MakeReport:
    """Given a schedule, what was decided of its slots and when nobody looked, return the report that tells it."""
    late = item.fate in {Fate.COALESCED, Fate.MISSED}
    evidence = gaps.over(item.first, item.last) if late else None

    def make(seq: int) -> SlotDecided:
        return SlotDecided(
            seq=seq,
            schedule_id=schedule_id,
            revision=item.revision,
            first=item.first,
            last=item.last,
            count=item.count,
            fate=item.fate,
            reason=item.reason,
            into=item.into,
            evidence=evidence,
        )

    return make
