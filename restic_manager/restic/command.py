"""Every restic command line and environment we use, as values. Owns argv and env; the only place that spells a flag.

Pure. What it is given has passed `restic.checks`. Refuses to know how a command is spawned. Two rules: a flag's value
is always in the same word (`--flag=value`, so that a value can never be read as a flag) and paths come after `--`;
secrets and the repository's URL are in the environment, never in argv, which every user of the host can read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from restic_manager.domain.model import RepoAccess
from restic_manager.domain.pathtext import text_to_path
from restic_manager.domain.specs import BackupSpec, Tuning
from restic_manager.restic.version import RECOMMENDED, Feature, Version

SCHEDULE_TAG = "rm:"
"""Prefix of the tag that names the schedule: retention finds a schedule's snapshots by it."""
JOB_TAG = "rmj:"
"""Prefix of the tag that names the job: a backup that ended without a word is found by it."""
JOB_ID_VARIABLE = "RESTIC_MANAGER_JOB_ID"
"""Set in every restic we start, so that a process outliving its agent can be found and told whose it is."""

ENV = "/usr/bin/env"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a program of the host's own finds others, however the agent was started."""

PASSED_THROUGH = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ", "SSH_AUTH_SOCK", "XDG_CONFIG_HOME",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
        "no_proxy", "GOMAXPROCS", "GOGC", "GOMEMLIMIT",
        # where the host's owner keeps the credentials that a repository only names
        "RCLONE_CONFIG", "RCLONE_CONFIG_PASS", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
    }
)  # fmt: skip
"""What restic inherits of our own environment. Anything else would make a run depend on how the agent was started."""


@dataclass(frozen=True, repr=False, slots=True)
class Command:
    """One restic command: argv as the kernel takes it, the whole environment, and the kind's name for messages."""

    argv: tuple[bytes, ...]
    env: Mapping[str, str]

    def __repr__(self) -> str:
        """Show argv only: the environment holds secrets."""
        return f"Command(argv={self.argv!r})"


@dataclass(frozen=True, repr=False, slots=True)
class Setting:
    """What all commands of one job share: the binary, and the environment made for its repository."""

    binary: str
    env: Mapping[str, str]
    before: tuple[str, ...] = ()
    """Words before restic's own: `nice` and `ionice`, which become restic by exec."""
    flags: tuple[str, ...] = ()
    """Flags that every command of the job gets."""

    def command(self, *words: str | bytes) -> Command:
        """Given the words after `restic`, return the command."""
        said = (word if isinstance(word, bytes) else word.encode() for word in (words[0], *self.flags, *words[1:]))
        return Command((*map(os.fsencode, self.before), os.fsencode(self.binary), *said), self.env)

    def __repr__(self) -> str:
        """Show the binary only: the environment holds secrets."""
        return f"Setting(binary={self.binary!r})"


def make_setting(
    binary: str, version: Version, repo: RepoAccess, *, job_id: str, cache_dir: str, inherited: Mapping[str, str]
) -> Setting:
    """Given the repository and the agent's own environment, return the setting of one job's commands."""
    env = {name: value for name, value in inherited.items() if name in PASSED_THROUGH}
    env |= repo.env
    url, credentials = place_credentials(repo.url, repo.env, version)
    env |= credentials
    # Last, so that nothing above can override them.
    env |= {
        "RESTIC_REPOSITORY": url,
        "RESTIC_PASSWORD": repo.known_password(),
        "RESTIC_CACHE_DIR": cache_dir,
        "RESTIC_PROGRESS_FPS": "1",  # 0.18 prints 52 status lines a second without it
        JOB_ID_VARIABLE: job_id,
    }
    return Setting(binary, env)


def place_credentials(url: str, env: Mapping[str, str], version: Version) -> tuple[str, dict[str, str]]:
    """Given a URL and the repository's environment, return the URL and the variables this version finds credentials in.

    A rest: URL's user and password move to the environment where restic reads them there (its error texts then have no
    secret to leave out); for older versions they stay in, or move into, the URL. Other schemes are left as they are.
    """
    if not url.startswith("rest:"):
        return url, {}
    parts = urlsplit(url.removeprefix("rest:"))
    userinfo, has_userinfo, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    if version.has(Feature.REST_CREDENTIALS_IN_ENV):
        if not has_userinfo:
            return url, {}
        moved = {"RESTIC_REST_USERNAME": unquote(user), "RESTIC_REST_PASSWORD": unquote(password)}
        return "rest:" + urlunsplit(parts._replace(netloc=host)), moved
    return url_with_credentials(url, env), {}


def url_with_credentials(url: str, env: Mapping[str, str]) -> str:
    """Given a URL and the repository's environment, return the URL with a rest server's login in it, if there is one.

    Every version reads it there, and it goes to this server only.
    """
    if not url.startswith("rest:"):
        return url
    parts = urlsplit(url.removeprefix("rest:"))
    if "@" in parts.netloc or not parts.netloc or "RESTIC_REST_USERNAME" not in env:
        return url
    user, password = env["RESTIC_REST_USERNAME"], env.get("RESTIC_REST_PASSWORD", "")
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"
    return "rest:" + urlunsplit(parts._replace(netloc=netloc))


def backup_command(
    setting: Setting,
    spec: BackupSpec,
    *,
    job_id: str,
    schedule_id: str | None,
    restic_host: str,
    version: Version = RECOMMENDED,
    program: Path | None = None,
) -> Command:
    """Given a checked spec and whose job it is, return the backup; what `version` cannot do is left out (`gates`).

    program: of a spec that names one: the host's own, whose output is saved.
    """
    words: list[str | bytes] = ["backup", "--json", f"--host={restic_host}"]
    if schedule_id is not None:
        words.append(f"--tag={SCHEDULE_TAG}{schedule_id}")
    words.append(f"--tag={JOB_TAG}{job_id}")
    words += [f"--tag={tag}" for tag in spec.tags]
    words += [b"--exclude=" + text_to_path(pattern) for pattern in spec.excludes]
    words += [b"--exclude-file=" + text_to_path(path) for path in spec.exclude_files]
    words += [b"--exclude-if-present=" + text_to_path(name) for name in spec.exclude_if_present]
    if spec.exclude_caches:
        words.append("--exclude-caches")
    if spec.one_file_system:
        words.append("--one-file-system")
    words += _backup_extras(spec, version)
    if spec.stdin_command is not None:
        if program is None:
            raise ValueError("a backup of what a command writes needs the command")
        words += ["--stdin-from-command", f"--stdin-filename={spec.stdin_name or spec.stdin_command}", "--"]
        # restic would hand it the repository's password with the rest of its own environment.
        clean = [f"{name}={value}" for name, value in clean_environment(setting.env).items()]
        return setting.command(*words, ENV, "-i", *clean, os.fsencode(program))
    words.append("--")
    words += [text_to_path(path) for path in spec.paths]
    return setting.command(*words)


def clean_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Given an environment, return what a program of the host's own gets of it: nothing that is a secret."""
    kept = {name: inherited[name] for name in ("HOME", "LANG", "TZ", "TMPDIR", JOB_ID_VARIABLE) if name in inherited}
    return {"PATH": SYSTEM_PATH} | kept


def _backup_extras(spec: BackupSpec, version: Version) -> list[str | bytes]:
    words: list[str | bytes] = [b"--files-from-verbatim=" + text_to_path(path) for path in spec.files_from]
    if spec.exclude_larger_than is not None:
        words.append(f"--exclude-larger-than={spec.exclude_larger_than}")
    if spec.skip_if_unchanged and version.has(Feature.SKIP_IF_UNCHANGED):
        words.append("--skip-if-unchanged")
    if spec.dry_run:
        words.append("--dry-run")
    if spec.tuning is not None:
        if spec.tuning.read_concurrency is not None and version.has(Feature.READ_CONCURRENCY):
            words.append(f"--read-concurrency={spec.tuning.read_concurrency}")
        words += tuning_words(spec.tuning)
    return words


def tuning_words(tuning: Tuning | None) -> list[str | bytes]:
    """Given how hard a job may work, return the flags that every command takes."""
    if tuning is None:
        return []
    words: list[str | bytes] = []
    if tuning.upload_limit is not None:
        words.append(f"--limit-upload={tuning.upload_limit}")
    if tuning.download_limit is not None:
        words.append(f"--limit-download={tuning.download_limit}")
    if tuning.compression is not None:
        words.append(f"--compression={tuning.compression}")
    return words


def ceiling_words(upload_limit: int | None, download_limit: int | None) -> tuple[str, ...]:
    """Given ceilings in KiB/s, return the flags that hold a command to them."""
    words = () if upload_limit is None else (f"--limit-upload={upload_limit}",)
    return words if download_limit is None else (*words, f"--limit-download={download_limit}")


def init_command(setting: Setting, *, chunker: bool = False) -> Command:
    """Return the creation of the repository. Never two at once: that destroys it.

    chunker: with the chunker parameters of the source that the setting knows.
    """
    return setting.command("init", "--json", *(["--copy-chunker-params"] if chunker else []))


def probe_command(setting: Setting) -> Command:
    """Return the cheapest question that proves URL, credentials and password: the repository's id."""
    return setting.command("cat", "config", "--no-lock")


def snapshots_by_job_command(setting: Setting, job_id: str) -> Command:
    """Return the look-up of the snapshot a job has made. No lock: it must answer while one is left over."""
    return setting.command("snapshots", "--json", "--no-lock", f"--tag={JOB_TAG}{job_id}")


def list_locks_command(setting: Setting) -> Command:
    """Return the list of lock ids."""
    return setting.command("list", "locks", "--no-lock")


def cat_lock_command(setting: Setting, lock_id: str) -> Command:
    """Given a lock's id, return the question whose it is."""
    return setting.command("cat", "lock", lock_id, "--no-lock")


def unlock_command(setting: Setting) -> Command:
    """Return the removal of stale locks (same host with a dead process, or older than 30 min); live ones stay."""
    return setting.command("unlock")


def version_command(binary: str, inherited: Mapping[str, str]) -> Command:
    """Return the question for the version."""
    return Setting(binary, {k: v for k, v in inherited.items() if k in PASSED_THROUGH}).command("version")
