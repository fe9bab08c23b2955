"""Command lines of what asks a repository: snapshots, ls, find, diff, dump. Pure.

ls, find and diff come in JSON and in text: JSON shows what is not UTF-8 as U+FFFD, text shows the bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.specs import DiffSpec, FindSpec, LsSpec, SnapshotsSpec
from restic_manager.restic.command import Command, Setting
from restic_manager.restic.commands.shared import Word, chosen, filter_words


def snapshots_command(setting: Setting, spec: SnapshotsSpec) -> Command:
    """Given whose, return the list of snapshots."""
    return setting.command("snapshots", "--json", *filter_words(spec.restic_host, spec.schedule_id))


def ls_command(setting: Setting, spec: LsSpec, *, text: bool = False) -> Command:
    """Given a folder of a snapshot, return its listing. A path is always said: without one restic lists the tree."""
    words: list[Word] = ["ls", *_json(text)]
    if spec.recursive:
        words.append("--recursive")
    return setting.command(*words, "--", chosen(spec.snapshot), text_to_path(spec.path))


def find_command(setting: Setting, spec: FindSpec, *, text: bool = False) -> Command:
    """Given patterns, return the search."""
    words: list[Word] = ["find", *_json(text), *filter_words(spec.restic_host, spec.schedule_id)]
    words += [f"--snapshot={snapshot}" for snapshot in spec.snapshots]
    if spec.ignore_case:
        words.append("--ignore-case")
    if spec.oldest is not None:
        words.append(f"--oldest={_time(spec.oldest)}")
    if spec.newest is not None:
        words.append(f"--newest={_time(spec.newest)}")
    return setting.command(*words, "--", *(text_to_path(pattern) for pattern in spec.patterns))


def diff_command(setting: Setting, spec: DiffSpec, *, text: bool = False) -> Command:
    """Given two snapshots, return their comparison."""
    words: list[Word] = ["diff", *_json(text)]
    if spec.metadata:
        words.append("--metadata")
    return setting.command(*words, "--", chosen(spec.old), chosen(spec.new))


def dump_command(setting: Setting, snapshot: str, path: str) -> Command:
    """Given a file of a snapshot, return what writes its bytes to stdout. Of a folder it would be an archive."""
    return setting.command("dump", "--", snapshot, text_to_path(path))


def _json(text: bool) -> list[Word]:
    return [] if text else ["--json"]


def _time(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
