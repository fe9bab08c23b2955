"""Logins that came with one job's request and are kept nowhere else: in this process's memory, until the job is over.

A stolen server that was switched off has none of them. Bounded, so that requests cannot fill the memory. It refuses to
know what a login opens; a restart forgets all of them, and their jobs end with a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from restic_manager.domain.errors import ConflictError

MOST: Final = 1_000
"""Jobs with a login of their own that may be unfinished at once."""


class PerJob:
    """The logins, by job. Has no readable form of them."""

    __slots__ = ("_logins",)

    def __init__(self) -> None:
        self._logins: dict[str, Mapping[str, str]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._logins)

    def keep(self, job_id: str, login: Mapping[str, str]) -> None:
        """Given a job and its login, keep it; raise ConflictError when there are too many."""
        if len(self._logins) >= MOST:
            raise ConflictError(f"{MOST} jobs that came with a login of their own are unfinished: wait for some to end")
        self._logins[job_id] = dict(login)

    def find(self, job_id: str) -> Mapping[str, str] | None:
        """Given a job, return the login that came with it; None when none did, or it is forgotten."""
        return self._logins.get(job_id)

    def drop(self, job_id: str) -> None:
        """Forget a job's login, if it has one."""
        self._logins.pop(job_id, None)

    def __repr__(self) -> str:
        """Say how many there are, nothing else."""
        return f"PerJob({len(self)})"
