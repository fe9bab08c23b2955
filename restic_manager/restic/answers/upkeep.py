"""What prune, check, unlock, stats and tag say. Pure; JSON where the release has it, else its text."""

from __future__ import annotations

import re
from typing import Final

from restic_manager.domain.results import (
    CheckStats,
    DamagedFile,
    PruneStats,
    RepoStats,
    TagStats,
)
from restic_manager.domain.specs import CheckSpec, StatsSpec
from restic_manager.restic.answers.reader import WHOLE_DOCUMENT, Finding, Reader, decode, items, objects, path
from restic_manager.restic.output import whole

_PRUNE: Final = re.compile(
    r"(?P<what>to repack|total prune|remaining|unused size after prune): +(?:[0-9]+ blobs / )?"
    r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?) (?P<unit>[KMGTP]?i?B)"
)
_UNITS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50}
_BAD_PACK: Final = re.compile(
    r"[Pp]ack (?:ID does not match, want )?([0-9a-f]{64})(?:, got|: does not exist| contains \d+ error|: )"
)
_TAGGED: Final = re.compile(r"modified tags on ([0-9]{1,9}) snapshots?")
_ID: Final = re.compile(r"[0-9a-f]{64}")


class PruneReader(Reader):
    """Reads `prune`: text in every release."""

    def __init__(self, *, dry_run: bool = False) -> None:
        super().__init__()
        self._sizes: dict[str, int] = {}
        self._dry_run = dry_run

    def stdout(self, raw: bytes) -> bool:
        """Given a line, read its numbers; it is for the log too."""
        match = _PRUNE.match(raw.decode("ascii", "replace"))
        if match is not None and match["unit"] in _UNITS:
            self._sizes[match["what"]] = whole(round(float(match["number"]) * _UNITS[match["unit"]]))
        return False

    def finding(self) -> Finding:
        """Return what was done, or would be."""
        result = PruneStats(
            repacked=self._sizes.get("to repack"),
            removed=self._sizes.get("total prune"),
            remaining=self._sizes.get("remaining"),
            unused_after=self._sizes.get("unused size after prune"),
            dry_run=self._dry_run,
        )
        return self.trouble(result) or Finding(result, None if self._sizes else "no_summary")


class CheckReader(Reader):
    """Reads `check`: JSON from 0.18, text before. Packs are named in both."""

    def __init__(self, spec: CheckSpec) -> None:
        super().__init__()
        self.packs: list[str] = []
        self._part = spec.read
        self._errors = 0
        self._told: int | None = None
        self._repair = self._prune = False
        self._clean = False

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is the summary."""
        if raw.startswith(b"no errors were found"):
            self._clean = True
        summary = decode(raw) if raw.startswith(b"{") else None
        if not isinstance(summary, dict) or summary.get("message_type") != "summary":
            return False
        self._told = whole(summary.get("num_errors"))
        self._repair = summary.get("suggest_repair_index") is True
        self._prune = summary.get("suggest_prune") is True
        for pack in items(summary.get("broken_packs")):
            self._bad(str(pack))
        return True

    def stderr(self, text: str) -> None:
        """Given an error, remember the pack it names."""
        super().stderr(text)
        for match in _BAD_PACK.finditer(text):
            self._bad(match[1])
        if text.startswith(("error", "Pack", "pack")):
            self._errors += 1

    def _bad(self, pack: str) -> None:
        if _ID.fullmatch(pack) and pack not in self.packs and len(self.packs) < 1_000:
            self.packs.append(pack)

    def finding(self) -> Finding:
        """Return what is damaged. Only to be asked when the check itself ran: a lock clash counts as an error too."""
        errors = self._told if self._told is not None else self._errors
        result = CheckStats(
            errors=max(errors, len(self.packs)),
            damaged_packs=tuple(self.packs),
            files_known=not self.packs,
            suggest_repair_index=self._repair,
            suggest_prune=self._prune,
            part=self._part.number if self._part is not None else None,
            of=self._part.of if self._part is not None else None,
        )
        if result.errors:
            return Finding(result, "repo_damaged")
        return Finding(result, None if self._clean or self._told is not None else "no_summary")


class PackFilesReader(Reader):
    """Reads `find --json --pack`: the files of the snapshots that need these packs."""

    longest_line = WHOLE_DOCUMENT

    def __init__(self) -> None:
        super().__init__()
        self.read = False
        self.snapshots: list[str] = []
        self.files: list[DamagedFile] = []
        self.count = 0

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is the document."""
        if not raw.startswith(b"["):
            return False
        self.read = True
        seen: set[tuple[str, str]] = set()
        for one in objects(decode(raw)):
            if _ID.fullmatch(str(one.get("snapshot"))):
                self._take(str(one["snapshot"]), one.get("path"), seen)
        self.count = len(seen)
        return True

    def _take(self, snapshot: str, where: object, seen: set[tuple[str, str]]) -> None:
        if snapshot not in self.snapshots and len(self.snapshots) < 1_000:
            self.snapshots.append(snapshot)
        if not where:
            return  # a tree: all that is below it
        key = (snapshot, path(where))
        if key not in seen:
            seen.add(key)
            if len(self.files) < 200:
                self.files.append(DamagedFile(snapshot=snapshot, path=key[1][:16_384]))


class StatsReader(Reader):
    """Reads `stats --json`: one object."""

    def __init__(self, spec: StatsSpec) -> None:
        super().__init__()
        self._mode = spec.mode
        self._result: RepoStats | None = None

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is the answer."""
        told = decode(raw) if raw.startswith(b"{") else None
        if not isinstance(told, dict) or "total_size" not in told:
            return False
        raw_data = self._mode == "raw-data"
        ratio = told.get("compression_ratio")
        self._result = RepoStats(
            mode=self._mode,
            size=whole(told.get("total_size")),
            files=None if raw_data else whole(told.get("total_file_count")),
            blobs=whole(told["total_blob_count"]) if "total_blob_count" in told else None,
            snapshots=whole(told.get("snapshots_count")),
            uncompressed=whole(told["total_uncompressed_size"]) if "total_uncompressed_size" in told else None,
            ratio=float(ratio) if isinstance(ratio, int | float) and 0 < ratio < 1e9 else None,
        )
        return True

    def finding(self) -> Finding:
        """Return what was measured."""
        return self.trouble() or Finding(self._result, None if self._result is not None else "no_summary")


class TagReader(Reader):
    """Reads `tag`: JSON from 0.18, text before."""

    def __init__(self) -> None:
        super().__init__()
        self._changed: int | None = None

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is JSON."""
        if raw.startswith(b"no snapshots were modified"):
            self._changed = 0
        if (match := _TAGGED.search(raw.decode("ascii", "replace"))) is not None:
            self._changed = int(match[1])
        told = decode(raw) if raw.startswith(b"{") else None
        if not isinstance(told, dict):
            return False
        if told.get("message_type") == "summary":
            self._changed = whole(told.get("changed_snapshots"))
        return told.get("message_type") in {"summary", "changed"}

    def finding(self) -> Finding:
        """Return how many were changed. One that has the tags already is left as it is, and that is no failure."""
        result = TagStats(changed=self._changed or 0)
        return self.trouble(result) or Finding(result, None if self._changed is not None else "no_summary")
