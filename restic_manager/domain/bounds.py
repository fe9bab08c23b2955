"""Limits on what may be written anywhere, as types. One place, so that the edges and the codec agree.

Lengths are in characters, sizes in bytes, durations in seconds. It refuses to know what the values are for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(min_length=1, max_length=63)]
ShortText = Annotated[str, Meta(max_length=256)]
LongText = Annotated[str, Meta(max_length=8192)]
PathText = Annotated[str, Meta(min_length=1, max_length=16_384)]
Instant = Annotated[datetime, Meta(tz=True)]
Revision = Annotated[int, Meta(ge=1, le=2**53)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[int, Meta(ge=0, le=10 * 366 * 86_400)]
SnapshotId = Annotated[str, Meta(pattern="^[0-9a-f]{8,64}$")]
"""A snapshot by its id or an unambiguous beginning of it. `latest` is none: who asks has chosen."""
Span = Annotated[str, Meta(pattern="^([0-9]{1,5}[ymdh]){1,4}$")]
"""A span of time as restic writes it: `1y5m7d2h`, where m is months."""
