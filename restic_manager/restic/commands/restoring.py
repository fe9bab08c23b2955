"""Command lines of what brings data out of a repository: restore and copy. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from restic_manager.domain.model import RepoAccess
from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.specs import CopySpec, RestoreSpec, Tuning
from restic_manager.restic.command import Command, Setting, url_with_credentials
from restic_manager.restic.commands.shared import Word, chosen, filter_words, literal, tuning_words


def restore_command(setting: Setting, spec: RestoreSpec) -> Command:
    """Given a spec that this version can do, return the restore. In place is into `/`: snapshots hold whole paths."""
    words: list[Word] = ["restore", "--json", *tuning_words(spec.tuning)]
    words.append(b"--target=" + (text_to_path(spec.target) if spec.target is not None else b"/"))
    words += [b"--include=" + literal(path) for path in spec.paths]
    words += [b"--include=" + text_to_path(pattern) for pattern in spec.includes]
    words += [b"--exclude=" + text_to_path(pattern) for pattern in spec.excludes]
    # `always` is what every version does; older ones do not know the flag.
    if spec.overwrite not in {None, "always"}:
        words.append(f"--overwrite={spec.overwrite}")
    words += [
        flag
        for flag, wanted in (("--delete", spec.delete), ("--dry-run", spec.dry_run), ("--verify", spec.verify))
        if wanted
    ]
    return setting.command(*words, "--", chosen(spec.snapshot))


def sample_command(
    setting: Setting, snapshot: str, target: str, paths: Sequence[str], tuning: Tuning | None
) -> Command:
    """Given some files of a snapshot, return their restore below a scratch folder, each read again afterwards."""
    words: list[Word] = ["restore", "--json", *tuning_words(tuning), b"--target=" + text_to_path(target), "--verify"]
    words += [b"--include=" + literal(path) for path in paths]
    return setting.command(*words, "--", snapshot)


def copy_command(setting: Setting, spec: CopySpec) -> Command:
    """Given what to copy, return the copy. The setting has been told the source (`with_source`)."""
    words: list[Word] = ["copy", *tuning_words(spec.tuning), *filter_words(spec.restic_host, spec.schedule_id)]
    return setting.command(*words, "--", *spec.snapshots)


def with_source(setting: Setting, repo: RepoAccess, source: RepoAccess) -> Setting:
    """Given a setting and a second repository, return the setting whose commands know it as the one to copy from.

    Both URLs carry their own login: restic's variables for it would be sent to whichever server has none in its URL.
    The other variables of the two have been checked not to contradict each other.
    """
    env: dict[str, str] = {**source.env, **setting.env}
    for name in ("RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"):
        env.pop(name, None)
    env |= {
        "RESTIC_REPOSITORY": url_with_credentials(repo.url, repo.env),
        "RESTIC_FROM_REPOSITORY": url_with_credentials(source.url, source.env),
        "RESTIC_FROM_PASSWORD": source.known_password(),
    }
    return dataclasses.replace(setting, env=env)


def contradictions(repo: Mapping[str, str], source: Mapping[str, str]) -> list[str]:
    """Given the variables of two repositories, return the names that both give, with different values."""
    own = {"RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"}  # these go into the URLs
    return sorted(name for name in repo.keys() & source.keys() if repo[name] != source[name] and name not in own)
