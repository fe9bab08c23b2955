"""What a committed change calls for outside the database: bells to ring, hosts to look at, hosts to tell.

Filled inside a transaction, acted on after its commit (rows are the truth, this only says where to look again). It
refuses to know who rings and who sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from restic_manager.protocol.messages import CommandCancel


@dataclass
class Ripple:
    """jobs: ids whose rows changed. hosts: where a queued job may be able to go now. repos: ids on which something
    ended. cancels: what to say to which host. over: (host, job) that ended.
    """

    jobs: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    repos: set[str] = field(default_factory=set)
    cancels: list[tuple[str, CommandCancel]] = field(default_factory=list)
    over: list[tuple[str, str]] = field(default_factory=list)
    homeless: bool = False
    """Whether an init was given to a host that may be away."""

    def add(self, other: Ripple) -> None:
        """Take over everything of another ripple."""
        self.jobs |= other.jobs
        self.hosts |= other.hosts
        self.repos |= other.repos
        self.cancels += other.cancels
        self.over += other.over
        self.homeless = self.homeless or other.homeless
