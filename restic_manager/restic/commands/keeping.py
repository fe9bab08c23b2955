"""Command lines of what keeps a repository in shape: forget, prune, check, unlock, tag, stats. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from restic_manager.domain.retention import COUNTS, SPANS
from restic_manager.domain.specs import CheckSpec, ForgetPolicy, PruneSpec, StatsSpec, TagSpec, UnlockSpec
from restic_manager.restic.command import Command, Setting
from restic_manager.restic.commands.shared import Word, filter_words, tuning_words


def forget_command(setting: Setting, policy: ForgetPolicy, *, dry_run: bool) -> Command:
    """Given one schedule's policy on one host, return its forget.

    Grouping by nothing: with any other, a rename or an edited tag begins a new group, of which all is kept.
    """
    keep = policy.keep
    words: list[Word] = ["forget", "--json", *filter_words(policy.restic_host, policy.schedule_id), "--group-by="]
    for name in (*COUNTS, *SPANS):
        value = getattr(keep, name)
        if value is not None:
            words.append(f"--keep-{name.replace('_', '-')}={value}")
    words += [f"--keep-tag={tag}" for tag in keep.tags]
    if dry_run:
        words.append("--dry-run")
    return setting.command(*words)


def forget_snapshots_command(setting: Setting, snapshots: Sequence[str], *, dry_run: bool) -> Command:
    """Given snapshots, return their removal. It prints nothing, in no version: what is gone has to be looked up."""
    words: list[Word] = ["forget", "--json"]
    if dry_run:
        words.append("--dry-run")
    return setting.command(*words, "--", *snapshots)


def prune_command(setting: Setting, spec: PruneSpec) -> Command:
    """Given a spec, return the prune. Its answer is text in every version."""
    words: list[Word] = ["prune", *tuning_words(spec.tuning)]
    if spec.max_unused is not None:
        words.append(f"--max-unused={spec.max_unused:g}%")
    if spec.max_repack is not None:
        words.append(f"--max-repack-size={spec.max_repack}")
    if spec.repack_cacheable_only:
        words.append("--repack-cacheable-only")
    if spec.repack_uncompressed:
        words.append("--repack-uncompressed")
    if spec.dry_run:
        words.append("--dry-run")
    return setting.command(*words)


def check_command(setting: Setting, spec: CheckSpec) -> Command:
    """Given a spec, return the check."""
    words: list[Word] = ["check", "--json", *tuning_words(spec.tuning)]
    if spec.read is not None:
        words.append(f"--read-data-subset={spec.read.number}/{spec.read.of}")
    return setting.command(*words)


def pack_files_command(setting: Setting, packs: Sequence[str]) -> Command:
    """Given ids of packs, return the question which snapshots and files they belong to. Answers of a missing pack too.

    No lock: it follows on a check that has just given its own back.
    """
    return setting.command("find", "--json", "--no-lock", "--pack", "--", *packs)


def unlock_spec_command(setting: Setting, spec: UnlockSpec) -> Command:
    """Given a spec, return the removal of stale locks, or of all of them if that was said."""
    return setting.command("unlock", *(["--remove-all"] if spec.remove_all else []))


def stats_command(setting: Setting, spec: StatsSpec) -> Command:
    """Given a spec, return the measurement."""
    words: list[Word] = ["stats", "--json", f"--mode={spec.mode}", *tuning_words(spec.tuning)]
    words += filter_words(spec.restic_host, spec.schedule_id)
    return setting.command(*words, "--", *spec.snapshots)


def tag_command(setting: Setting, spec: TagSpec) -> Command:
    """Given a spec, return the change of tags."""
    words: list[Word] = ["tag", "--json"]
    words += [f"--add={tag}" for tag in spec.add]
    words += [f"--remove={tag}" for tag in spec.remove]
    return setting.command(*words, "--", *spec.snapshots)
