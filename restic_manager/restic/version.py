"""restic's versions. Owns what `restic version` says, the floor, and which release brought what we build on.

Pure. Refuses to know how restic is found or run.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import Enum

from restic_manager.domain.errors import ManagerError

_ANSWER = re.compile(r"^restic v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?(?![\d.])", re.MULTILINE)


class ResticUnusableError(ManagerError):
    """There is no restic we can use on this host. Codes: restic_missing, restic_too_old, restic_broken."""

    default_code = "restic_missing"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A release of restic. Compares as releases do; what follows the number (`-dev`, a Debian revision) is left out."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        """Return `0.18.0`."""
        return f"{self.major}.{self.minor}.{self.patch}"

    def has(self, feature: Feature) -> bool:
        """Given a feature, return whether this release has it."""
        return self >= feature.since


class Feature(Enum):
    """What differs between releases and matters to us. The value says since when and what for."""

    JSON_INIT = (Version(0, 15), "init --json answers in JSON; before it in text")
    READ_CONCURRENCY = (Version(0, 15), "--read-concurrency; before it two files at once")
    JSON_RESTORE = (Version(0, 16), "restore --json reports progress and a summary; before it text without numbers")
    RETRY_LOCK = (Version(0, 16), "--retry-lock")
    SKIP_IF_UNCHANGED = (Version(0, 17), "backup --skip-if-unchanged")
    RESTORE_CHOICES = (Version(0, 17), "restore --dry-run, --overwrite and --delete")
    EXIT_CODES = (Version(0, 17), "10 = no repository, 11 = locked; before it only stderr tells")
    ERROR_MESSAGE = (Version(0, 17), "error lines carry error.message; before it a raw Go struct")
    SIGTERM_CANCELS = (Version(0, 17), "SIGTERM removes the lock; before it only SIGINT does")
    PASSWORD_EXIT_CODE = (Version(0, 17, 1), "12 = wrong password")
    JSON_CHECK = (Version(0, 18), "check --json and tag --json; before it text")
    # 0.14 writes through them; tried with 0.18.0 and 0.19.1. What lies between is taken for the older one.
    RESTORES_OVER_LINKS = (Version(0, 18), "a restore puts files and folders in the place of links that are there")
    STDIN_COMMAND = (Version(0, 17), "backup --stdin-from-command")
    EXIT_ERROR = (Version(0, 18), "the last word comes as exit_error JSON on stderr")
    # Known in 0.18 and absent from 0.14. Older releases get the credentials in the URL, which every release reads.
    REST_CREDENTIALS_IN_ENV = (Version(0, 18), "RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD are read")
    # Known in 0.19.1 and absent from 0.18.0. Nothing is decided by it: we look for missing paths ourselves.
    MISSING_SOURCE_IS_3 = (Version(0, 19), "exit code 3 when one of several source paths is missing; before it 0")

    def __init__(self, since: Version, why: str) -> None:
        self.since = since
        self.why = why


FLOOR = Version(0, 14)
"""The oldest restic we run."""
RECOMMENDED = Version(0, 17, 1)
"""From here on restic itself tells the classes of failure apart and gives its lock back when stopped."""


def parse_version(answer: str) -> Version:
    """Given what `restic version` printed, return the version; raise ResticUnusableError if that is not restic."""
    match = _ANSWER.search(answer)
    if match is None:
        said = answer.strip().splitlines()
        heard = f"it said {said[0][:200]!r}" if said else "it said nothing"
        raise ResticUnusableError(
            f"this does not answer `restic version` like restic does ({heard}): point the agent at a restic binary",
            code="restic_broken",
        )
    return Version(int(match[1]), int(match[2]), int(match[3] or 0))


def check_version(version: Version) -> None:
    """Given a version, raise ResticUnusableError if it is below the floor."""
    if version < FLOOR:
        raise ResticUnusableError(
            f"restic {version} is too old: {FLOOR} is the oldest that works, {RECOMMENDED} or newer is recommended; "
            "install a newer one from your distribution's backports or from restic's releases",
            code="restic_too_old",
        )


def stop_signal(version: Version) -> signal.Signals:
    """Given a version, return the signal on which it ends in order and gives its lock back."""
    return signal.SIGTERM if version.has(Feature.SIGTERM_CANCELS) else signal.SIGINT
