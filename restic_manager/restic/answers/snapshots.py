"""Lists of snapshots, and what a forget does with them. Pure; the shapes are those of 0.14 to 0.19."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from restic_manager.domain.results import FateRow, ForgetStats, ListStats, Row, SnapshotRow, SnapshotSummary
from restic_manager.restic.answers.reader import WHOLE_DOCUMENT, Finding, Reader, decode, instant, items, objects, texts
from restic_manager.restic.output import clean, whole

_ID = re.compile(r"[0-9a-f]{8,64}")
LONGEST_LIST: Final = 96 << 10
"""Characters of a snapshot's paths, or of its tags, in a row: one row has to fit into a message, many times over."""


def snapshot_row(value: object) -> SnapshotRow | None:
    """Given a snapshot out of JSON, return it as a row, or None if it is none."""
    if not isinstance(value, dict) or not _ID.fullmatch(str(value.get("id"))):
        return None
    made = instant(value.get("time"))
    if made is None:
        return None
    told = value.get("summary")
    return SnapshotRow(
        id=str(value["id"]),
        time=made,
        hostname=clean(str(value.get("hostname") or ""))[:256],
        username=clean(str(value.get("username") or ""))[:256],
        paths=_fitting(texts(value.get("paths"))),
        tags=_fitting(texts(value.get("tags"))),
        tree=_id(value.get("tree")),
        parent=_id(value.get("parent")),
        original=_id(value.get("original")),
        program=clean(str(value["program_version"]))[:256] if value.get("program_version") else None,
        summary=_summary(told) if isinstance(told, dict) else None,
    )


def _fitting(found: tuple[str, ...]) -> tuple[str, ...]:
    """Given texts of a row, return as many as a row may carry, and how many more there are."""
    room = LONGEST_LIST
    for number, text in enumerate(found):
        room -= len(msgspec.json.encode(text)) + 1
        if room < 0:
            return (*found[:number], f"… and {len(found) - number} more")
    return found


def _summary(told: dict[str, Any]) -> SnapshotSummary:
    return SnapshotSummary(
        files=whole(told.get("total_files_processed")),
        size=whole(told.get("total_bytes_processed")),
        data_added=whole(told.get("data_added")),
        files_new=whole(told.get("files_new")),
        files_changed=whole(told.get("files_changed")),
    )


def _id(value: object) -> str | None:
    return str(value) if _ID.fullmatch(str(value)) else None


class SnapshotsReader(Reader):
    """Reads `snapshots --json`: one document."""

    longest_line = WHOLE_DOCUMENT

    def __init__(self) -> None:
        super().__init__()
        self.found: list[SnapshotRow] = []
        self.read = False
        self._given = 0

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is the document."""
        if not raw.startswith((b"[", b"null")):
            return False
        document = decode(raw)
        self.read = True
        self.found = _snapshots(document)
        return True

    def rows(self) -> list[Row]:
        """Return the snapshots, once."""
        fresh = self.found[self._given :]
        self._given = len(self.found)
        return list(fresh)

    def finding(self) -> Finding:
        """Return how many there are."""
        result = ListStats(rows=len(self.found))
        return self.trouble(result) or Finding(result, None if self.read else "no_summary")


class ForgetReader(Reader):
    """Reads `forget --json` of one policy: one document, or nothing when no snapshot matches."""

    longest_line = WHOLE_DOCUMENT

    def __init__(self, schedule_id: str | None = None, *, dry_run: bool = False) -> None:
        super().__init__()
        self.keep: list[SnapshotRow] = []
        self.remove: list[SnapshotRow] = []
        self._reasons: dict[tuple[str, str | None], tuple[str, ...]] = {}
        self._schedule_id = schedule_id
        self._dry_run = dry_run
        self._given = False

    def stdout(self, raw: bytes) -> bool:
        """Given a line, take it if it is the document."""
        if not raw.startswith((b"[", b"null")):
            return False
        for group in objects(decode(raw)):
            self._take(group)
        return True

    def _take(self, group: dict[str, Any]) -> None:
        self.keep += _snapshots(group.get("keep"))
        self.remove += _snapshots(group.get("remove"))
        for reason in objects(group.get("reasons")):
            told = reason.get("snapshot")
            if isinstance(told, dict):
                # Its id is not there before 0.17: time and tree are the snapshot as well.
                self._reasons[str(told.get("time")), _id(told.get("tree"))] = texts(reason.get("matches"), 256)
        by_time = {(str(instant(time)), tree): words for (time, tree), words in self._reasons.items()}
        self._reasons.update(by_time)

    def fates(self) -> list[FateRow]:
        """Return what becomes of each snapshot, and why."""
        return [
            FateRow(
                schedule_id=self._schedule_id,
                snapshot=row,
                keep=keep,
                reasons=self._reasons.get((str(row.time), row.tree), ()) if keep else (),
            )
            for rows, keep in ((self.keep, True), (self.remove, False))
            for row in rows
        ]

    def rows(self) -> list[Row]:
        """Return the fates, once, as soon as they are known."""
        if self._given or not (self.keep or self.remove):
            return []
        self._given = True
        return list(self.fates())

    def finding(self) -> Finding:
        """Return how many were kept and removed; those that the storage kept are not removed."""
        stayed = set(self.refused)
        gone = [row.id for row in self.remove if row.id not in stayed]
        result = ForgetStats(
            kept=len(self.keep) + len(self.remove) - len(gone),
            removed=len(gone),
            removed_ids=tuple(gone[:1_000]),
            dry_run=self._dry_run,
        )
        return self.trouble(result) or Finding(result)


def _snapshots(value: object) -> list[SnapshotRow]:
    return [row for one in items(value) if (row := snapshot_row(one)) is not None]
