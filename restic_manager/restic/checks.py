"""What we refuse to hand to restic, whoever asked. Owns the rules; every one names the value and the remedy.

Pure. The server checks with these when something is written down; the agent checks again before it runs, because a
stolen server must not get a program of its choice started here: no variable and no URL may execute or redirect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from restic_manager.domain import references
from restic_manager.domain.errors import InputError
from restic_manager.domain.model import RepoAccess
from restic_manager.domain.specs import CopySpec, Spec
from restic_manager.restic.commands.restoring import contradictions
from restic_manager.restic.spec_checks import CONTROL, check_spec, check_tag, check_wish

__all__ = [
    "ALLOWED_ENV",
    "check_password",
    "check_repo",
    "check_repo_env",
    "check_repo_url",
    "check_source",
    "check_spec",
    "check_tag",
    "check_task",
    "check_wish",
    "hide_password",
]

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SFTP = re.compile(
    r"(?://)?(?P<login>(?:[^/]*@)?(?:\[[0-9A-Fa-f:.%]+\]|[^:/@\[\]]+))(?::[0-9]{1,5})?(?P<path>[:/].*)", re.DOTALL
)
_SFTP_LOGIN = re.compile(r"[^/@:]+:[^/@]+@")
"""`user:password@…`: restic takes `user` for the host, and what follows for a path."""
MAX_URL = 4_095
"""Longest repository URL, in bytes: no path is longer."""
_WEB = re.compile(r"(?:https?://(?P<host>[^/?#]+)|http\+unix://(?P<socket>/[^?#]+))(?:[/?#].*)?", re.DOTALL)
_RCLONE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@ -]*:(?P<path>.*)", re.DOTALL)

ALLOWED_ENV = frozenset(
    {
        # restic itself
        "RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD", "RESTIC_COMPRESSION", "RESTIC_PACK_SIZE",
        "RESTIC_READ_CONCURRENCY", "RESTIC_KEY_HINT", "RESTIC_CACERT", "RESTIC_TLS_CLIENT_CERT", "RESTIC_FEATURES",
        "RESTIC_HTTP_USER_AGENT", "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "TMPDIR",
        # S3 and those who speak it
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION",
        "AWS_PROFILE", "RESTIC_AWS_ASSUME_ROLE_ARN",
        "RESTIC_AWS_ASSUME_ROLE_SESSION_NAME", "RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID", "RESTIC_AWS_ASSUME_ROLE_REGION",
        "RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT", "RESTIC_AWS_ASSUME_ROLE_POLICY",
        # Backblaze, Azure, Google
        "B2_ACCOUNT_ID", "B2_ACCOUNT_KEY", "AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_KEY", "AZURE_ACCOUNT_SAS",
        "AZURE_ENDPOINT_SUFFIX", "GOOGLE_PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_ACCESS_TOKEN",
        # OpenStack Swift
        "ST_AUTH", "ST_USER", "ST_KEY", "OS_AUTH_URL", "OS_REGION_NAME", "OS_USERNAME", "OS_USER_ID", "OS_PASSWORD",
        "OS_TENANT_ID", "OS_TENANT_NAME", "OS_USER_DOMAIN_NAME", "OS_USER_DOMAIN_ID", "OS_PROJECT_NAME",
        "OS_PROJECT_DOMAIN_NAME", "OS_PROJECT_DOMAIN_ID", "OS_TRUST_ID", "OS_APPLICATION_CREDENTIAL_ID",
        "OS_APPLICATION_CREDENTIAL_NAME", "OS_APPLICATION_CREDENTIAL_SECRET", "OS_STORAGE_URL", "OS_AUTH_TOKEN",
        "SWIFT_DEFAULT_CONTAINER_POLICY",
        # rclone: its remotes are set up on the host. Nearly all its other variables can name a program to run, and so
        # can the files that RCLONE_CONFIG or AWS_SHARED_CREDENTIALS_FILE point to: those come from the host alone.
        "RCLONE_CONFIG_PASS",
        # the way there
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
        "SSL_CERT_DIR", "SSH_AUTH_SOCK",
    }
)  # fmt: skip
"""The variables a repository may bring. A list of what is let in, because the list of what can hurt has no end
(`RESTIC_PASSWORD_COMMAND`, `LD_PRELOAD`, `RCLONE_SFTP_SSH`, `AZURE_FORCE_CLI_CREDENTIAL`, `PATH`, …)."""

_OURS = {
    "RESTIC_PASSWORD": "the password is a field of its own",
    "RESTIC_REPOSITORY": "the URL is a field of its own",
    "RESTIC_CACHE_DIR": "the agent chooses the cache folder",
    "RESTIC_PROGRESS_FPS": "the agent sets it",
    "RESTIC_HOST": "the host's restic name is fixed when it joins",
}


def check_task(spec: Spec, repo: RepoAccess, restic_host: str) -> None:
    """Given what a job is to run, raise InputError if any of it cannot be handed to restic."""
    check_spec(spec)
    check_repo(repo)
    check_looked_up(repo)
    if not restic_host or CONTROL.search(restic_host):
        raise InputError(f"the restic host name {restic_host!r} is empty or has control characters in it")


def check_source(spec: Spec, repo: RepoAccess, source: RepoAccess | None) -> None:
    """Given a spec and the access to a second repository, raise InputError unless the two belong together.

    One restic opens both, so their variables must not contradict each other.
    """
    wanted = spec.from_repo if isinstance(spec, CopySpec) else getattr(spec, "chunker_from", None)
    if (wanted is None) != (source is None) or (source is not None and source.repo_id != wanted):
        raise InputError(f"the access to the other repository is not that of {wanted!r}")
    if source is None:
        return
    check_repo(source)
    if source.repo_id == repo.repo_id or source.url == repo.url:
        raise InputError("a repository cannot be copied onto itself")
    if both := contradictions(repo.env, source.env):
        raise InputError(
            f"both repositories set {', '.join(both)}, to different values, and one restic opens both: copy through "
            "rclone or a rest server, whose logins are in the URL, or use one login for both"
        )


def check_repo(repo: RepoAccess) -> None:
    """Given a repository's access, raise InputError if its URL, password, environment or references cannot be used."""
    check_repo_url(repo.url)
    if repo.password is not None:
        check_password(repo.password)
    check_repo_env(repo.env)
    check_repo_env(dict.fromkeys(repo.env_from, ""))
    references.check_all(repo.password_from, repo.env, repo.env_from)


def check_looked_up(repo: RepoAccess) -> None:
    """Given a repository's access, raise InputError if it refers to secrets still: restic needs the secrets."""
    if repo.referenced:
        raise InputError(f"the secrets of repository {repo.repo_id} have not been looked up on the host")


def check_password(password: str) -> None:
    """Given a repository password, raise InputError if no environment variable can hold it. Never shows it."""
    if not password:
        raise InputError("the repository password is empty")
    if "\0" in password or _not_utf8(password):
        raise InputError("the repository password holds a character that no environment variable can hold")


def check_repo_env(env: Mapping[str, str]) -> None:
    """Given a repository's variables, raise InputError on any that is not known to be harmless, or cannot be set."""
    for name, value in env.items():
        if name in _OURS:
            raise InputError(f"the repository variable {name} cannot be set: {_OURS[name]}")
        if name not in ALLOWED_ENV:
            shown = name if _ENV_NAME.fullmatch(name) else repr(name)
            raise InputError(
                f"the repository variable {shown} is not one that a repository may bring: it could run a program or "
                f"lead restic elsewhere. Allowed are {', '.join(sorted(ALLOWED_ENV))}"
            )
        if "\0" in value or _not_utf8(value):
            raise InputError(f"the value of the repository variable {name} holds a character no variable can hold")


def check_repo_url(url: str) -> None:
    """Given a repository URL, raise InputError unless restic reads it as one place and nothing in it can execute.

    sftp: starts ssh and rclone: starts rclone on the agent's host: that is what they are. So a host or user that ssh
    would read as an option is refused, and an rclone remote must be a plain name from the host's own rclone
    configuration (its on-the-fly remotes can name a program).
    """
    shown = hide_password(url)
    if not url or CONTROL.search(url) or _not_utf8(url):
        raise InputError(f"the repository URL {shown!r} is empty or has control characters in it")
    if len(url.encode()) > MAX_URL:
        raise InputError(f"the repository URL {shown[:40]!r}… has {len(url.encode()):,} bytes: at most {MAX_URL:,}")
    if url.startswith("/"):
        return
    scheme, colon, rest = url.partition(":")
    problem: str | None
    match scheme if colon else "":
        case "local":
            problem = None if rest.startswith("/") else "the path must be absolute: local:/srv/backups"
        case "rest":
            problem = _web_problem(rest, "rest:https://host:8000/path/")
        case "s3":
            problem = None if rest.strip("/") else "write s3:https://host/bucket/path or s3:s3.amazonaws.com/bucket"
        case "sftp":
            problem = _sftp_problem(rest)
        case "rclone":
            problem = _rclone_problem(rest)
        case "b2" | "azure" | "gs" | "swift":
            bucket, _, _ = rest.partition(":")
            problem = None if bucket.strip("/") else f"write {scheme}:CONTAINER:/path"
        case _:
            problem = (
                "it is neither an absolute path nor one of restic's schemes "
                "(local:, rest:, sftp:, s3:, b2:, azure:, gs:, swift:, rclone:)"
            )
    if problem is not None:
        raise InputError(f"the repository URL {shown!r} cannot be used: {problem}")


def hide_password(url: str) -> str:
    """Given a URL, return it with the password of its user part as `***`."""
    return re.sub(r"(//[^/@:]*:|^sftp:[^/@:]+:(?=[^/@]+@)).*@", r"\1***@", url, flags=re.DOTALL)


def _web_problem(rest: str, example: str) -> str | None:
    match = _WEB.fullmatch(rest)
    try:
        if match is None or (match["host"] or match["socket"]).endswith("@") or urlsplit(rest).port == 0:
            return f"write it like {example}"
    except ValueError as error:
        return f"{error}: write it like {example}"
    return None


def _sftp_problem(rest: str) -> str | None:
    if _SFTP_LOGIN.match(rest):
        return "it has a password in it, which ssh takes from nobody: give the agent's user a key for that host"
    match = _SFTP.fullmatch(rest)
    if match is None or not match["path"].strip(":/"):
        return "write sftp:user@host:/path or sftp://user@host:22//path"
    if any(part.startswith("-") for part in match["login"].split("@")):
        return "a user or host that begins with a dash would be read by ssh as an option"
    return None


def _rclone_problem(rest: str) -> str | None:
    if _RCLONE.fullmatch(rest) is None:
        return "write rclone:REMOTE:path, with a remote set up in the host's own rclone configuration"
    return None


def _not_utf8(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
