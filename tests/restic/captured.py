"""What the real binaries said (`tests/tools/capture_restic.py`), fed to our parser."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from restic_manager.domain.model import Kind, Outcome
from restic_manager.restic.output import Heard
from restic_manager.restic.verdict import Ended, Stop, judge, needs_lookup
from restic_manager.restic.version import Version

_DATA = json.loads((Path(__file__).parent / "data" / "captured.json").read_text())
_KINDS = json.loads((Path(__file__).parent / "data" / "captured_kinds.json").read_text())
VERSIONS: tuple[str, ...] = tuple(sorted(_DATA))


@dataclass(frozen=True)
class Said:
    """One real run."""

    version: Version
    code: int
    stdout: list[bytes]
    stderr: list[bytes]

    def heard(self) -> tuple[Heard, list[str]]:
        """Return what our parser keeps of it, and the log lines."""
        heard = Heard(lambda text: text)
        return heard, heard.take("stdout", self.stdout)[0] + heard.take("stderr", self.stderr)[0]

    def ended(self, kind: Kind = Kind.BACKUP, *, stopped: Stop | None = None, missing: tuple[str, ...] = ()) -> Ended:
        """Return the end of it."""
        return Ended(kind, self.version, self.code, None, stopped, missing)

    def outcome(
        self, kind: Kind = Kind.BACKUP, *, stopped: Stop | None = None, missing: tuple[str, ...] = ()
    ) -> Outcome:
        """Return our verdict on it."""
        return judge(self.ended(kind, stopped=stopped, missing=missing), self.heard()[0])

    def needs_lookup(self) -> bool:
        """Return whether we would ask the repository."""
        return needs_lookup(self.ended(), self.heard()[0])


def said(version: str, situation: str) -> Said:
    """Given a version and a situation, return what that restic said."""
    told = _DATA[version].get(situation) or _KINDS[version][situation]
    raw = {
        stream: base64.b64decode(told[stream]["base64"]) if isinstance(told[stream], dict) else told[stream].encode()
        for stream in ("stdout", "stderr")
    }
    major, minor, patch = (int(part) for part in version.split("."))
    return Said(Version(major, minor, patch), told["code"], raw["stdout"].splitlines(), raw["stderr"].split(b"\n"))
