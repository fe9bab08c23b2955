"""What a job found out or did, in words: one sentence a kind of result, and lines for what it lists. Pure."""

from __future__ import annotations

from restic_manager.cli.text import amount, listing, short, size
from restic_manager.domain.instants import instant_text
from restic_manager.domain.results import (
    CheckStats,
    CopyStats,
    DiffStats,
    ForgetStats,
    ListStats,
    LockedBy,
    ProbeStats,
    PruneStats,
    RepoStats,
    RestoreStats,
    Result,
    TagStats,
    UnlockStats,
    VerifyStats,
)

_MOST = 20
"""So many damaged files, differences and locks are shown; the rest is counted (`--json` has all that is known)."""


def result_words(result: Result) -> str:  # noqa: C901, PLR0911, PLR0912 - one sentence a kind
    """Given a job's result, return it in one sentence."""
    match result:
        case ForgetStats():
            return forget_words(result)
        case PruneStats():
            return prune_words(result)
        case CheckStats():
            return check_words(result)
        case UnlockStats():
            left = f", {result.left:,} left" if result.left else ""
            return f"{amount(result.removed, 'lock')} removed{left}"
        case RepoStats():
            return stats_words(result)
        case RestoreStats():
            return restore_words(result)
        case VerifyStats():
            return verify_words(result)
        case CopyStats():
            there = "" if result.skipped is None else f", {result.skipped:,} there already"
            return f"{amount(result.copied, 'snapshot')} copied{there}"
        case DiffStats():
            return diff_words(result)
        case TagStats():
            return f"{amount(result.changed, 'snapshot')} changed"
        case ListStats():
            return amount(result.rows, "row")
        case ProbeStats():
            return {
                "refused": "deleting is refused there",
                "possible": "hosts can delete there",
                "unknown": "whether hosts can delete is not known",
            }[result.deletion]
        case LockedBy():
            return f"{amount(len(result.locks), 'lock')} in the way"


def forget_words(result: ForgetStats) -> str:
    """Given what a forget did, return it in words; of snapshots that were named none is looked at to be kept."""
    kept = ""
    if result.kept:
        stay = "stays" if result.kept == 1 else "stay"
        kept = f", {result.kept:,} {stay if result.dry_run else 'kept'}"
    return f"{amount(result.removed, 'snapshot')} {'would go' if result.dry_run else 'removed'}{kept}"


def prune_words(result: PruneStats) -> str:
    """Given what a prune did, return it in words; restic does not always say all of it."""
    would = "would be " if result.dry_run else ""
    words = [
        f"{size(count)} {would}{done}"
        for count, done in ((result.removed, "removed"), (result.repacked, "rewritten"))
        if count is not None
    ]
    words += [] if result.remaining is None else [f"{size(result.remaining)} remain"]
    words += [] if not result.unused_after else [f"{size(result.unused_after)} of it unused"]
    return ", ".join(words) or "restic did not say how much"


def check_words(result: CheckStats) -> str:
    """Given what a check found, return it in words."""
    read = ""
    if result.part is not None and result.of is not None:
        read = ", all data read" if result.of == 1 else f", part {result.part} of {result.of} of the data read"
    if not result.errors and not result.damaged_packs:
        words = f"no errors{read}"
    else:
        words = f"{amount(result.errors, 'error')}{read}"
        if result.damaged_packs:
            words += f"; {amount(len(result.damaged_packs), 'damaged pack')}"
            words += f", in {amount(len(result.damaged_snapshots), 'snapshot')}"
            words += f" and {amount(result.damaged_files_count, 'file')}" if result.files_known else ""
    words += "; `repair index` is advised" if result.suggest_repair_index else ""
    return words + ("; a prune is advised" if result.suggest_prune else "")


def stats_words(result: RepoStats) -> str:
    """Given a measurement, return it in words."""
    words = [size(result.size) if result.mode == "raw-data" else f"{size(result.size)} ({result.mode})"]
    words += [f"of {size(result.uncompressed)} uncompressed"] if result.uncompressed else []
    counted = [amount(result.snapshots, "snapshot")]
    counted += [] if result.files is None else [amount(result.files, "file")]
    counted += [] if result.blobs is None else [amount(result.blobs, "blob")]
    return f"{' '.join(words)}, {', '.join(counted)}"


def restore_words(result: RestoreStats) -> str:
    """Given what a restore wrote, return it in words; before 0.16 restic does not say it."""
    if result.files_restored is None:
        words = ["would be restored" if result.dry_run else "restored"]
    else:
        done = "would be restored" if result.dry_run else "restored"
        much = "" if result.bytes_restored is None else f", {size(result.bytes_restored)}"
        words = [f"{amount(result.files_restored, 'file or folder', 'files and folders')}{much} {done}"]
    if result.files_skipped:
        words.append(f"{result.files_skipped:,} left as {'it is' if result.files_skipped == 1 else 'they are'}")
    if result.files_deleted:
        words.append(f"{result.files_deleted:,} {'would be ' if result.dry_run else ''}deleted")
    if result.errors:
        words.append(amount(result.errors, "error"))
    if result.verified is not None:
        words.append(f"{result.verified:,} read again and right")
    return ", ".join(words)


def verify_words(result: VerifyStats) -> str:
    """Given a proof of restore, return it in words."""
    words = f"{amount(result.files, 'file')}, {size(result.size)} of {short(result.snapshot)} restored"
    live = f", {result.live:,} with the host's own" if result.live else ""
    changed = f" ({result.changed:,} changed since)" if result.changed else ""
    if result.differences_count:
        return f"{words}, {amount(result.differences_count, 'difference')}"
    return f"{words} and right{live}{changed}"


def diff_words(result: DiffStats) -> str:
    """Given what differs between two snapshots, return it in numbers."""
    return (
        f"{amount(result.files_added, 'file')} new, {result.files_removed:,} gone, {result.files_changed:,} changed; "
        f"{size(result.bytes_added)} added, {size(result.bytes_removed)} removed"
    )


def result_lines(result: Result | None) -> list[str]:
    """Given a job's result, return a line for each thing it names: damage, differences, refusals, locks."""
    match result:
        case ForgetStats():
            return list(result.refused)
        case CheckStats():
            lines = [f"pack {short(pack)}" for pack in result.damaged_packs[:_MOST]]
            lines += [f"{short(file.snapshot)} {file.path}" for file in result.damaged_files[:_MOST]]
            if result.damaged_snapshots:
                lines.append(f"snapshots: {listing([short(one) for one in result.damaged_snapshots], most=_MOST)}")
            more = result.damaged_files_count - min(len(result.damaged_files), _MOST)
            return [*lines, f"and {amount(more, 'file')} more"] if more > 0 else lines
        case VerifyStats():
            lines = [f"{one.path}: {one.what} ({one.against})" for one in result.differences[:_MOST]]
            more = result.differences_count - len(lines)
            return [*lines, f"and {amount(more, 'difference')} more"] if more > 0 else lines
        case LockedBy():
            return [
                f"lock {short(lock.id)} of {lock.hostname}, pid {lock.pid}, {lock.username}, since "
                f"{instant_text(lock.time)}{', exclusive' if lock.exclusive else ''}"
                for lock in result.locks[:_MOST]
            ]
        case _:
            return []
