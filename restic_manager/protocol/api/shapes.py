"""Bounds and defaults that several of the operators' requests share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from restic_manager.domain.model import Name, ShortText

Labels = Annotated[dict[Name, ShortText], Meta(max_length=64)]
Secret = Annotated[str, Meta(min_length=1, max_length=4_096)]
Retries = Annotated[int, Meta(ge=0, le=100)]
PauseReason = Annotated[str, Meta(max_length=200)]
Parallel = Annotated[int, Meta(ge=1, le=1_000)]
Parts = Annotated[int, Meta(ge=1, le=10_000)]

DEFAULT_RETRY_BACKOFF = 300
"""Seconds from a failure to the first further attempt, where a schedule says nothing else."""
DEFAULT_STALL_LIMIT = 1_800
"""Seconds without progress after which a run is stopped, where a schedule says nothing else."""
DEFAULT_MAX_PARALLEL = 4
"""How many jobs that need not be alone may be on one repository at once, where nothing else is said."""
