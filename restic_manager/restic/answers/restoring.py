"""What restore and copy say. Pure; restore in JSON from 0.16, in text before; copy in text in every release."""

from __future__ import annotations

import re
from typing import Final

from restic_manager.domain.results import CopyStats, RestoreStats
from restic_manager.restic.answers.reader import Finding, Reader, decode
from restic_manager.restic.output import whole

_VERIFIED: Final = re.compile(r"finished verifying ([0-9]{1,15}) files in ")
_SAVED: Final = re.compile(r"snapshot ([0-9a-f]{8,64}) saved")
_SKIPPED: Final = re.compile(r"skipping (?:source )?snapshot ([0-9a-f]{8,64}), was already copied")


class RestoreReader(Reader):
    """Reads a restore. Errors of single files are counted where stderr is read, but those of 0.14 are text."""

    def __init__(self, *, dry_run: bool = False, verify: bool = False) -> None:
        super().__init__()
        self.text_errors = 0
        self._dry_run = dry_run
        self._verify = verify
        self._verified: int | None = None
        self._result: RestoreStats | None = None

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is the summary."""
        if (match := _VERIFIED.search(raw.decode("ascii", "replace"))) is not None:
            self._verified = int(match[1])
        told = decode(raw) if raw.startswith(b"{") else None
        if not isinstance(told, dict) or told.get("message_type") != "summary":
            return False
        self._result = RestoreStats(
            files_total=whole(told.get("total_files")),
            files_restored=whole(told.get("files_restored")),
            files_skipped=whole(told.get("files_skipped")),
            files_deleted=whole(told.get("files_deleted")),
            bytes_total=whole(told.get("total_bytes")),
            bytes_restored=whole(told.get("bytes_restored")),
            bytes_skipped=whole(told.get("bytes_skipped")),
            dry_run=self._dry_run,
        )
        return True

    def stderr(self, text: str) -> None:
        """Given an error, count it if it is one of 0.14's, told once for each file and step."""
        super().stderr(text)
        if text.startswith("ignoring error for "):
            self.text_errors += 1

    def finding(self) -> Finding:
        """Return what was restored; a summary of nothing at all means that nothing matched."""
        told = self._result
        if told is None:
            result = RestoreStats(errors=self.text_errors, verified=self._verified, dry_run=self._dry_run)
            return self.trouble(result) or Finding(result)
        verified = self._verified if self._verified is not None else told.files_restored if self._verify else None
        result = RestoreStats(
            **{name: getattr(told, name) for name in told.__struct_fields__ if name not in {"verified", "errors"}},
            verified=verified,
            errors=self.text_errors,
        )
        nothing = not (told.files_total or told.files_restored or told.files_skipped or told.files_deleted)
        return self.trouble(result) or Finding(result, "nothing_restored" if nothing else None)


class CopyReader(Reader):
    """Reads a copy. Only old releases say what they skip."""

    def __init__(self) -> None:
        super().__init__()
        self._copied: list[str] = []
        self._skipped: int | None = None

    def stdout(self, raw: bytes) -> bool:
        """Given a line, read it; it is for the log too."""
        text = raw.decode("ascii", "replace")
        if (saved := _SAVED.match(text)) is not None:
            self._copied.append(saved[1])
        elif _SKIPPED.match(text):
            self._skipped = (self._skipped or 0) + 1
        return False

    def finding(self) -> Finding:
        """Return how many were copied."""
        result = CopyStats(copied=len(self._copied), skipped=self._skipped, copied_ids=tuple(self._copied[:1_000]))
        return self.trouble(result) or Finding(result)
