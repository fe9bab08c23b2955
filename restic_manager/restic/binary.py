"""Finding this host's restic. Owns the look-up, the question for its version, and saying why there is none to use."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from restic_manager.restic.capture import capture
from restic_manager.restic.command import version_command
from restic_manager.restic.output import clean_text
from restic_manager.restic.process import SpawnError, describe
from restic_manager.restic.version import ResticUnusableError, Version, check_version, parse_version, stop_signal

_VERSION_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Binary:
    """A restic that we can use: its absolute path and its version."""

    path: str
    version: Version


async def find_binary(path: str | None) -> Binary:
    """Given a path or a name (None: `restic`), return the restic found there or on PATH.

    Raise ResticUnusableError (restic_missing, restic_too_old, restic_broken) with what to do about it.
    """
    wanted = path or "restic"
    found = _locate(wanted)
    if found is None:
        where = "this path" if "/" in wanted else "PATH"
        raise ResticUnusableError(
            f"no executable {wanted!r} at {where}: install restic on this host, or tell the agent where it is",
            code="restic_missing",
        )
    try:
        answer = await capture(
            version_command(found, os.environ), within=_VERSION_WITHIN, stop_signal=stop_signal(Version(0, 0))
        )
    except SpawnError as error:
        raise ResticUnusableError(f"{error.message}; reinstall restic on this host", code=error.code) from None
    if answer.timed_out or answer.exit.code != 0:
        how = (
            f"did not answer within {_VERSION_WITHIN:g} s" if answer.timed_out else f"failed ({describe(answer.exit)})"
        )
        said = " ".join(clean_text(line) for line in answer.stderr[:3])[:300]
        raise ResticUnusableError(f"`{found} version` {how}: {said or 'it said nothing'}", code="restic_broken")
    version = parse_version(answer.stdout.decode("utf-8", "replace"))
    check_version(version)
    return Binary(found, version)


def _locate(wanted: str) -> str | None:
    """Given a path or a name, return the executable's absolute path. Links stay: some look at their own name."""
    found = shutil.which(wanted)
    return os.path.abspath(found) if found is not None else None  # noqa: PTH100
