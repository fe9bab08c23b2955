"""The options that `schedule add` and `schedule edit` share: their names and what their help says.

What a schedule does is `spec_options`, what it keeps `keep_options`; what the values mean is `schedule_request`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from restic_manager.cli.command import OptionSet

HostsOption = Annotated[
    list[str] | None, typer.Option("--host", metavar="H", help="Run on this host; repeat for more.", show_default=False)
]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="K=V", help="Run on every host with all of these labels; repeat.", show_default=False
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Run on every host, now and later.")]
RepoOption = Annotated[str | None, typer.Option("--repo", metavar="R", help="The repository.", show_default=False)]
CronOption = Annotated[
    str | None,
    typer.Option(
        "--cron",
        metavar="EXPR",
        help="Five fields ('30 2 * * *'), @daily…; H is a value of each host's own.",
        show_default=False,
    ),
]
EveryOption = Annotated[
    str | None,
    typer.Option(
        "--every", metavar="D", help="Every so often (15m, 6h, 1d) from the instant it is added.", show_default=False
    ),
]
TimezoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="Z",
        help="An IANA zone, `host` for each host's own, or `server` (the default).",
        show_default=False,
    ),
]
SplayOption = Annotated[
    str | None,
    typer.Option(
        "--splay", metavar="D", help="Spread the hosts over this long, each at its own place.", show_default=False
    ),
]
OverlapOption = Annotated[
    str | None,
    typer.Option(
        "--overlap",
        metavar="queue|skip",
        help="What a slot does while the one before still runs: wait (queue, the default), or be left out (skip).",
        show_default=False,
    ),
]
OfflineOption = Annotated[
    str | None,
    typer.Option(
        "--offline",
        metavar="run|wait",
        help="What a host does without the server: run by itself (the default), or wait for it.",
        show_default=False,
    ),
]
LatenessOption = Annotated[
    str | None,
    typer.Option(
        "--max-lateness",
        metavar="D",
        help="A slot later than this is recorded as missed, not run. `none`, the default: always run.",
        show_default=False,
    ),
]
RetryOption = Annotated[
    str | None,
    typer.Option(
        "--retry",
        metavar="N",
        help="Try again up to N times what may pass: network, a lock, a stall. [default: 0]",
        show_default=False,
    ),
]
RetryBackoffOption = Annotated[
    str | None,
    typer.Option(
        "--retry-backoff",
        metavar="D",
        help="How long until the first retry; then twice as long each time, at most 6h. [default: 5m]",
        show_default=False,
    ),
]
TimeLimitOption = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        metavar="D",
        help="Stop a run that takes longer. `none`, the default: never.",
        show_default=False,
    ),
]
StallLimitOption = Annotated[
    str | None,
    typer.Option(
        "--stall-limit",
        metavar="D",
        help="Stop a run without progress for this long; `none`: never. [default: 30m]",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class WhenOptions(OptionSet):
    """When and where a schedule runs, and what becomes of a run that is late, fails or hangs."""

    host: HostsOption = None
    label: LabelsOption = None
    every_host: AllOption = False
    cron: CronOption = None
    every: EveryOption = None
    repo: RepoOption = None
    timezone: TimezoneOption = None
    splay: SplayOption = None
    overlap: OverlapOption = None
    offline: OfflineOption = None
    max_lateness: LatenessOption = None
    retry: RetryOption = None
    retry_backoff: RetryBackoffOption = None
    time_limit: TimeLimitOption = None
    stall_limit: StallLimitOption = None
