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
    ended, with whether it had been alone there. cancels: what to say to which host. over: (host, job) that ended.
    """

    jobs: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    repos: dict[str, bool] = field(default_factory=dict)
    cancels: list[tuple[str, CommandCancel]] = field(default_factory=list)
    over: list[tuple[str, str]] = field(default_factory=list)
    homeless: bool = False
    """Whether an init was given to a host that may be away."""

    def freed(self, repo_id: str, *, exclusive: bool) -> None:
        """Note that a job on this repository ended."""
        self.repos[repo_id] = self.repos.get(repo_id, False) or exclusive

    def add(self, other: Ripple) -> None:
        """Take over everything of another ripple."""
        self.jobs |= other.jobs
        self.hosts |= other.hosts
        for repo_id, exclusive in other.repos.items():
            self.freed(repo_id, exclusive=exclusive)
        self.cancels += other.cancels
        self.over += other.over
        self.homeless = self.homeless or other.homeless
