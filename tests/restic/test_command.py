"""Every command line and environment, asserted whole."""

from __future__ import annotations

from restic_manager.domain.model import BackupSpec, RepoAccess
from restic_manager.restic.command import (
    Setting,
    backup_command,
    cat_lock_command,
    init_command,
    list_locks_command,
    make_setting,
    place_credentials,
    probe_command,
    snapshots_by_job_command,
    unlock_command,
    version_command,
)
from restic_manager.restic.version import Version

OLD, NEW = Version(0, 14), Version(0, 18)
SETTING = Setting("/usr/bin/restic", {"RESTIC_PASSWORD": "geheim"})


def test_a_plain_backup() -> None:
    command = backup_command(SETTING, BackupSpec(paths=("/etc",)), job_id="j1", schedule_id=None, restic_host="web1")
    assert command.argv == (
        b"/usr/bin/restic", b"backup", b"--json", b"--host=web1", b"--tag=rmj:j1", b"--", b"/etc",
    )  # fmt: skip
    assert command.env is SETTING.env


def test_a_backup_with_everything() -> None:
    spec = BackupSpec(
        paths=("/etc", "/srv/caf\\xe9", "/srv/back\\\\slash", "/-dash", "/ü"),
        excludes=("*.tmp", "-starts-with-a-dash", "--password-command=sh"),
        exclude_files=("/etc/restic/excludes",),
        exclude_if_present=(".nobackup", "CACHE:Signature: 8a47"),
        exclude_caches=True,
        one_file_system=True,
        tags=("daily", "with space", "ü"),
    )
    command = backup_command(SETTING, spec, job_id="j1", schedule_id="s1", restic_host="web1")
    assert command.argv == (
        b"/usr/bin/restic",
        b"backup",
        b"--json",
        b"--host=web1",
        b"--tag=rm:s1",
        b"--tag=rmj:j1",
        b"--tag=daily",
        b"--tag=with space",
        "--tag=ü".encode(),
        b"--exclude=*.tmp",
        b"--exclude=-starts-with-a-dash",
        b"--exclude=--password-command=sh",
        b"--exclude-file=/etc/restic/excludes",
        b"--exclude-if-present=.nobackup",
        b"--exclude-if-present=CACHE:Signature: 8a47",
        b"--exclude-caches",
        b"--one-file-system",
        b"--",
        b"/etc",
        b"/srv/caf\xe9",
        b"/srv/back\\slash",
        b"/-dash",
        "/ü".encode(),
    )


def test_the_small_commands() -> None:
    binary = b"/usr/bin/restic"
    assert init_command(SETTING).argv == (binary, b"init", b"--json")
    assert probe_command(SETTING).argv == (binary, b"cat", b"config", b"--no-lock")
    assert snapshots_by_job_command(SETTING, "j1").argv == (
        binary, b"snapshots", b"--json", b"--no-lock", b"--tag=rmj:j1",
    )  # fmt: skip
    assert list_locks_command(SETTING).argv == (binary, b"list", b"locks", b"--no-lock")
    assert cat_lock_command(SETTING, "ab12").argv == (binary, b"cat", b"lock", b"ab12", b"--no-lock")
    assert unlock_command(SETTING).argv == (binary, b"unlock")


def test_the_version_question_takes_no_secrets_along() -> None:
    command = version_command("/usr/bin/restic", {"PATH": "/bin", "RESTIC_PASSWORD": "geheim", "HOME": "/root"})
    assert command.argv == (b"/usr/bin/restic", b"version")
    assert command.env == {"PATH": "/bin", "HOME": "/root"}


def test_the_environment_is_made_from_scratch() -> None:
    repo = RepoAccess(
        repo_id="r", url="/srv/repo", password="geheim", env={"RESTIC_COMPRESSION": "max", "TMPDIR": "/t"}
    )
    inherited = {
        "PATH": "/bin", "HOME": "/root", "TMPDIR": "/var/tmp", "https_proxy": "http://proxy:3128",
        "LD_PRELOAD": "/evil.so", "RESTIC_PASSWORD_COMMAND": "sh", "RESTIC_REPOSITORY": "/other", "AGENT_SECRET": "x",
        "RESTIC_PASSWORD_FILE": "/x", "RESTIC_HOST": "y",
    }  # fmt: skip
    setting = make_setting("/r", NEW, repo, job_id="j1", cache_dir="/cache", inherited=inherited)
    assert dict(setting.env) == {
        "PATH": "/bin",
        "HOME": "/root",
        "TMPDIR": "/t",
        "https_proxy": "http://proxy:3128",
        "RESTIC_COMPRESSION": "max",
        "RESTIC_REPOSITORY": "/srv/repo",
        "RESTIC_PASSWORD": "geheim",
        "RESTIC_CACHE_DIR": "/cache",
        "RESTIC_PROGRESS_FPS": "1",
        "RESTIC_MANAGER_JOB_ID": "j1",
    }


def test_nothing_of_a_repository_overrides_what_is_ours() -> None:
    repo = RepoAccess(repo_id="r", url="/srv/repo", password="geheim", env={"RESTIC_REPOSITORY": "/evil"})
    assert (
        make_setting("/r", NEW, repo, job_id="j", cache_dir="/c", inherited={}).env["RESTIC_REPOSITORY"] == "/srv/repo"
    )


def test_secrets_are_in_no_repr() -> None:
    repo = RepoAccess(repo_id="r", url="rest:http://u:geheim@h/", password="geheim")
    setting = make_setting("/r", OLD, repo, job_id="j", cache_dir="/c", inherited={})
    assert "geheim" not in repr(setting)
    assert "geheim" not in repr(init_command(setting))
    assert b"geheim" not in b" ".join(init_command(setting).argv)


def test_credentials_go_where_the_version_reads_them() -> None:
    with_login = "rest:https://us%40er:p%3Aw@host:8000/repo/"
    assert place_credentials(with_login, {}, NEW) == (
        "rest:https://host:8000/repo/",
        {"RESTIC_REST_USERNAME": "us@er", "RESTIC_REST_PASSWORD": "p:w"},
    )
    assert place_credentials(with_login, {}, OLD) == (with_login, {})
    named = {"RESTIC_REST_USERNAME": "us@er", "RESTIC_REST_PASSWORD": "p:w/x"}
    assert place_credentials("rest:https://host/repo/", named, NEW) == ("rest:https://host/repo/", {})
    assert place_credentials("rest:https://host/repo/", named, OLD) == ("rest:https://us%40er:p%3Aw%2Fx@host/repo/", {})
    assert place_credentials("rest:https://[::1]:80/r", {}, NEW) == ("rest:https://[::1]:80/r", {})
    for url in ("/srv/u:p@x", "s3:https://u:p@host/bucket", "sftp:u@host:/x"):
        assert place_credentials(url, named, OLD) == (url, {})
