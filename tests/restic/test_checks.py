"""What is refused, with the value named."""

from __future__ import annotations

import pytest

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import BackupSpec, InitSpec, RepoAccess
from restic_manager.restic.checks import (
    check_password,
    check_repo_env,
    check_repo_url,
    check_spec,
    check_task,
    hide_password,
)

FINE = RepoAccess(repo_id="r", url="/srv/repo", password="geheim")


def test_a_spec_that_is_fine() -> None:
    check_spec(InitSpec())
    check_spec(
        BackupSpec(
            paths=("/", "/a\nb", "/caf\\xe9", "/x y"),
            excludes=("-x", "**/*.o", "[a"),
            exclude_files=("/e",),
            exclude_if_present=(".nb", "CACHEDIR.TAG:Signature: x"),
            tags=("daily", "a:b", "rmx:1"),
        )
    )


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (BackupSpec(paths=()), "at least one path"),
        (BackupSpec(paths=("relative/path",)), "relative/path"),
        (BackupSpec(paths=("~/x",)), "~/x"),
        (BackupSpec(paths=("",)), "empty path"),
        (BackupSpec(paths=("/a\0b",)), "NUL"),
        (BackupSpec(paths=("/a\\x00b",)), "NUL"),
        (BackupSpec(paths=("/a\\b",)), "backslash"),
        (BackupSpec(paths=("/a",), excludes=("",)), "empty exclude"),
        (BackupSpec(paths=("/a",), excludes=("a\0",)), "NUL"),
        (BackupSpec(paths=("/a",), exclude_files=("list.txt",)), "list.txt"),
        (BackupSpec(paths=("/a",), exclude_if_present=(":header",)), ":header"),
        (BackupSpec(paths=("/a",), exclude_if_present=("",)), "empty"),
        (BackupSpec(paths=("/a",), tags=("a,b",)), "a,b"),
        (BackupSpec(paths=("/a",), tags=("",)), "empty"),
        (BackupSpec(paths=("/a",), tags=("a\n",)), "control"),
        (BackupSpec(paths=("/a",), tags=(" a",)), "' a'"),
        (BackupSpec(paths=("/a",), tags=("rm:other",)), "rm:other"),
        (BackupSpec(paths=("/a",), tags=("rmj:other",)), "rmj:other"),
    ],
)
def test_specs_that_restic_would_refuse_or_misread(spec: BackupSpec, named: str) -> None:
    with pytest.raises(InputError) as caught:
        check_spec(spec)
    assert named in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        "RESTIC_PASSWORD_COMMAND", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD", "RESTIC_REPOSITORY",
        "RESTIC_REPOSITORY_FILE", "RESTIC_FROM_REPOSITORY", "RESTIC_FROM_PASSWORD_COMMAND", "RESTIC_CACHE_DIR",
        "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PATH", "HOME", "BASH_ENV", "GODEBUG", "SSH_ASKPASS",
        "RCLONE_SFTP_SSH", "RCLONE_CONFIG", "RCLONE_CONFIG_X_SSH", "RCLONE_PASSWORD_COMMAND",
        "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AZURE_FORCE_CLI_CREDENTIAL",
        "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "", "A=B", "restic_compression", "RESTIC_PROGRESS_FPS", "X\n",
    ],
)  # fmt: skip
def test_variables_that_could_execute_or_redirect(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_repo_env({name: "secret-value"})
    assert "secret-value" not in caught.value.message


def test_variables_that_a_repository_may_bring() -> None:
    check_repo_env(
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "RESTIC_COMPRESSION": "max", "https_proxy": ""}
    )
    with pytest.raises(InputError) as caught:
        check_repo_env({"AWS_SECRET_ACCESS_KEY": "secret\0value"})
    assert "secret" not in caught.value.message


def test_passwords() -> None:
    check_password("päss wörd\n")
    for bad in ("", "a\0b", "\udc80"):
        with pytest.raises(InputError):
            check_password(bad)


@pytest.mark.parametrize(
    "url",
    [
        "/srv/repo",
        "/",
        "local:/srv/repo",
        "rest:http://host:8000/",
        "rest:https://user:p%40w@host/repo/sub/",
        "rest:http://[::1]:8000/x",
        "rest:http+unix:///run/rest.sock:/repo/",
        "sftp:user@host:/srv/repo",
        "sftp:host:/srv/repo",
        "sftp:host:relative",
        "sftp:user@domain@host:/srv",
        "sftp://user@host:2222//srv/repo",
        "sftp://user@[::1]:2222//srv/repo",
        "s3:s3.amazonaws.com/bucket",
        "s3:https://minio.local:9000/bucket/path",
        "b2:bucket:path/to",
        "azure:container:/",
        "gs:bucket:/",
        "swift:container:/path",
        "rclone:remote:path",
        "rclone:my remote.x:",
    ],
)
def test_urls_that_restic_knows(url: str) -> None:
    check_repo_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relative/repo",
        "C:\\backup",
        "local:relative",
        "http://host/",
        "ftp://host/",
        "rest:host:8000",
        "rest:ftp://host/",
        "rest:http:///x",
        "rest:http://user@/x",
        "rest:http://[::1/x",
        "rest:http://host:99999/",
        "sftp:host",
        "sftp:-oProxyCommand=touch x:/srv",
        "sftp:user@-oProxyCommand=touch:/srv",
        "sftp:-l@host:/srv",
        "sftp:a@-oX@host:/srv",
        "sftp://-oProxyCommand=x/srv",
        "sftp:user:geheim@host:/srv",
        "/" + "x" * 4_095,
        "rclone:path",
        "rclone::sftp,ssh=touch x:path",
        "rclone:remote,ssh=touch:path",
        "rclone:--config=/x:path",
        "rclone:-v:path",
        "b2:",
        "s3:",
        "/srv/re\npo",
        "/srv/\0",
        "/srv/\ud800",
        "-/x",
        "--password-command=x:y",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InputError):
        check_repo_url(url)


def test_a_refused_url_does_not_tell_its_password() -> None:
    with pytest.raises(InputError) as caught:
        check_repo_url("rest:ftp://user:geh/eim@host/x")
    assert "geh" not in caught.value.message
    assert hide_password("rest:https://u:geheim@h/x") == "rest:https://u:***@h/x"
    assert hide_password("sftp:u:geheim@h:/x") == "sftp:u:***@h:/x"
    assert hide_password("sftp:u@h:/x@y") == "sftp:u@h:/x@y"
    check_repo_url("/" + "x" * 4_094)
    assert hide_password("sftp://u@h:22//x") == "sftp://u@h:22//x"


def test_the_whole_task() -> None:
    spec = BackupSpec(paths=("/a",))
    check_task(spec, FINE, "web1")
    with pytest.raises(InputError):
        check_task(spec, FINE, "web\n1")
    with pytest.raises(InputError):
        check_task(spec, RepoAccess(repo_id="r", url="x", password="p"), "web1")
