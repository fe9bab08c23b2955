"""A wrong command line: one clear line, exit 2, JSON where that was asked for; no server: exit 5."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from restic_manager import __version__
from tests.cli.conftest import Command
from tests.cli.stub_server import StubServer

WRONG: list[tuple[list[str], str]] = [
    (["hots"], "did you mean 'host'?"),
    (
        ["frobnicate"],
        "there are status, host, repo, schedule, job, snapshot, restore, pause, resume, login, context, token, audit",
    ),
    (["host"], "say what to do: invite, list, show, label, rename, pause, resume, remove"),
    (["host", "frobnicate"], "'frobnicate'"),
    (["host", "lits"], "Did you mean 'list'"),
    (["host", "show"], "missing argument 'NAME'"),
    (["host", "list", "--frobnicate"], "--frobnicate"),
    (["host", "list", "extra"], "extra"),
    (["host", "list", "--server"], "--server"),
    (["--data-dir", "/x", "host", "list"], "options stand behind the command"),
    (["host", "--server", "/x", "list"], "options stand behind the command"),
    (["host", "invite", "web1", "--label", "role"], "'role' is not a label: write K=V"),
    (["host", "invite", "web1", "--label", "a=1", "--label", "a=2"], "'a' is given twice"),
    (["host", "label", "web1", "a=1", "a-"], "both set and taken away"),
    (["repo", "init", "main"], "missing option '--host'"),
    (["repo", "add", "x", "/y", "--password-file", "f", "--generate-password"], "choose one"),
    (["repo", "add", "x", "/y", "--password-file", "-", "--env-file", "-"], "only one of them"),
    (["repo", "add", "x", "/y"], "--password-file"),
    (["repo", "add", "x", "/y", "--password-file", "/no/such/file"], "/no/such/file"),
    (["job", "list", "--limit", "many"], "--limit many"),
    (["job", "list", "--limit", "0"], "--limit 0"),
    (["job", "list", "--limit", "-1"], "--limit -1"),
    (["job", "list", "--limit", "٣"], "--limit"),
    (["job", "list", "--status", "done"], "--status done: one of queued, running"),
    (["status", "--wait", "soon"], "'soon'"),
    (["status", "--wait", "-1"], "--wait -1"),
    (["status", "--wait", "nan"], "--wait nan"),
    (["status", "--server", "backup.example"], "backup.example"),
    (["status", "--server", "http://x", "--data-dir", "/y"], "choose one"),
    (["schedule", "add", "n", "/etc", "--all", "--repo", "r"], "--cron"),
    (["schedule", "add", "n", "/etc", "--cron", "@daily", "--repo", "r"], "say where"),
    (["schedule", "add", "n", "/etc", "--cron", "@daily", "--all"], "--repo"),
    (["schedule", "add", "n", "--cron", "@daily", "--all", "--repo", "r"], "what to save"),
    (["schedule", "add", "n", "/etc", "--cron", "@daily", "--every", "6h", "--all", "--repo", "r"], "choose one"),
    (["schedule", "add", "n", "/etc", "--cron", "@daily", "--all", "--host", "h", "--repo", "r"], "--host and --all"),
    (["schedule", "add", "n", "etc", "--cron", "@daily", "--all", "--repo", "r"], "'etc' is relative"),
    (["schedule", "add", "n", "", "--cron", "@daily", "--all", "--repo", "r"], "what to save"),
    (
        ["schedule", "add", "n", "/e", "--cron", "@daily", "--all", "--repo", "r", "--exclude-file", "f"],
        "'f' is relative",
    ),
    (["schedule", "add", "n", "/e", "--cron", "@daily", "--all", "--repo", "r", "--splay", "long"], "--splay: 'long'"),
    (["schedule", "add", "n", "/e", "--cron", "@daily", "--all", "--repo", "r", "--overlap", "pile"], "queue or skip"),
    (["schedule", "add", "n", "/e", "--cron", "@daily", "--all", "--repo", "r", "--offline", "x"], "run or wait"),
    (["schedule", "edit", "n"], "say what to change"),
    (["schedule", "add", "n", "--kind", "init", "--all", "--cron", "@daily", "--repo", "r"], "no schedule does this"),
    (
        ["schedule", "add", "n", "--kind", "bakup", "--all", "--cron", "@daily", "--repo", "r"],
        "there are backup, forget",
    ),
    (["schedule", "add", "n", "/e", "--kind", "prune", "--all", "--cron", "@daily", "--repo", "r"], "leave '/e' out"),
    (
        ["schedule", "add", "n", "/e", "--all", "--cron", "@daily", "--repo", "r", "--dry-run"],
        "job run backup --dry-run",
    ),
    (["schedule", "add", "n", "/e", "--all", "--cron", "@daily", "--repo", "r", "--keep-daily", "0"], "--keep-daily 0"),
    (
        ["schedule", "add", "n", "/e", "--all", "--cron", "@daily", "--repo", "r", "--keep-within", "30"],
        "like 48h, 30d",
    ),
    (["schedule", "add", "n", "/e", "--all", "--cron", "@daily", "--repo", "r", "--guard-off", "x"], "source_missing"),
    (
        ["schedule", "add", "n", "/e", "--all", "--cron", "@daily", "--repo", "r", "--guard-shrink", "0"],
        "--guard-shrink 0",
    ),
    (
        ["schedule", "add", "n", "--kind", "prune", "--all", "--cron", "@daily", "--repo", "r", "--keep-last", "3"],
        "--keep-last does not belong to prune",
    ),
    (
        [
            "schedule",
            "add",
            "n",
            "--kind",
            "check",
            "--all",
            "--cron",
            "@daily",
            "--repo",
            "r",
            "--read-data-subset",
            "3/9",
        ],
        "write 1/9",
    ),
    (
        ["schedule", "add", "n", "--kind", "check", "--all", "--cron", "@daily", "--repo", "r", "--offline", "run"],
        "--offline run is for backups: a check waits",
    ),
    (
        ["schedule", "add", "n", "--kind", "restore", "--in-place", "--all", "--cron", "@daily", "--repo", "r"],
        "--in-place writes over what is there, and nobody can be asked here: say --yes",
    ),
    (["schedule", "edit", "n", "--max-lateness", "long"], "--max-lateness: 'long'"),
    (["job", "run", "moon", "--repo", "r"], "there are backup, init, forget"),
    (["job", "run", "prune"], "missing option '--repo'"),
    (["job", "run", "backup", "--repo", "r"], "say what to save"),
    (["job", "run", "backup", "etc", "--repo", "r"], "'etc' is relative"),
    (["job", "run", "backup", "/etc", "--repo", "r", "--read-data"], "--read-data does not belong to backup"),
    (["job", "run", "prune", "--repo", "r", "--exclude", "x"], "--exclude does not belong to prune: it is for backup"),
    (["job", "run", "prune", "--repo", "r", "--of-host", "h"], "--of-host does not belong to prune"),
    (["job", "run", "backup", "/e", "--repo", "r", "--exclude-larger-than", "big"], "500M"),
    (["job", "run", "backup", "/e", "--repo", "r", "--limit-upload", "0"], "--limit-upload"),
    (["job", "run", "backup", "/e", "--repo", "r", "--nice", "20"], "--nice 20"),
    (["job", "run", "backup", "/e", "--repo", "r", "--ionice-level", "3"], "best-effort"),
    (["job", "run", "backup", "/e", "--repo", "r", "--compression", "zip"], "auto or off"),
    (["job", "run", "check", "--repo", "r", "--read-data", "--read-data-subset", "1/2"], "choose one"),
    (["job", "run", "check", "--repo", "r", "--read-data-subset", "3/2"], "like 1/12"),
    (["job", "run", "copy", "--repo", "r"], "--from REPO"),
    (["job", "run", "find", "--repo", "r"], "say what to find"),
    (["job", "run", "find", "x", "--repo", "r", "--since", "2026-02-01", "--until", "2026-01-01"], "exchange them"),
    (["job", "run", "dump", "/etc/fstab", "--repo", "r"], "--snapshot ID"),
    (["job", "run", "diff", "0123abcd", "--repo", "r"], "two snapshots"),
    (["job", "run", "ls", "/a", "/b", "--repo", "r"], "one path"),
    (["job", "run", "ls", "/a", "--repo", "r", "--snapshot", "latest"], "'latest' is no snapshot's id"),
    (["job", "run", "stats", "--repo", "r", "--snapshot", "0123abcd", "--of-host", "h"], "choose one way"),
    (["job", "run", "tag", "--repo", "r"], "--add T"),
    (["job", "run", "tag", "--repo", "r", "--add", "a", "--remove", "a"], "choose one"),
    (["job", "run", "restore", "--repo", "r", "--in-place"], "--yes"),
    (["job", "run", "prune", "--repo", "r", "--time-limit", "soon"], "--time-limit: 'soon'"),
    (["snapshot", "list", "--limit", "0"], "--limit 0"),
    (["snapshot", "list", "--until", "soon"], "--until 'soon'"),
    (["snapshot", "list", "--path", "etc"], "'etc' is relative"),
    (["snapshot", "show", "latest"], "--host H"),
    (["snapshot", "ls", "0123abcd", "etc"], "'etc' is relative"),
    (["snapshot", "tag", "0123abcd"], "--add T"),
    (["restore", "latest", "--host", "h"], "--to DIR"),
    (["restore", "latest", "--to", "/x"], "--host H"),
    (["restore", "latest", "--host", "h", "--to", "x"], "'x' is relative"),
    (["restore", "latest", "--host", "h", "--to", "/"], "--in-place"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--in-place"], "--to /x and --in-place"),
    (["restore", "latest", "--host", "h", "--in-place"], "say --yes"),
    (["restore", "latest", "--host", "h", "--in-place", "--delete", "--yes"], "would empty the host"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--include", "a", "--exclude", "b"], "leave one out"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--path", "/a", "--exclude", "b"], "--path and --exclude"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--dry-run", "--verify"], "leave one out"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--delete", "--overwrite", "never"], "the other keeps it"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--overwrite", "maybe"], "always or if-changed"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--at", "then"], "2026-11-20 18:00"),
    (["restore", "0123abcd", "--at", "2026-11-20 18:00", "--to", "/x"], "write `latest`"),
    (["restore", "latest", "--host", "h", "--to", "/x", "--max-size", "1M"], "--stdout"),
    (["restore", "latest", "--host", "h", "--stdout"], "one --path, not 0"),
    (["restore", "latest", "--host", "h", "--stdout", "--path", "/a", "--path", "/b"], "not 2"),
    (["restore", "latest", "--host", "h", "--stdout", "--path", "/a", "--to", "/x"], "--stdout and --to"),
    (["repo", "add", "x", "/y", "--generate-password", "--max-parallel", "0"], "--max-parallel 0"),
    (["repo", "edit", "x"], "say what to change"),
    (["repo", "maintenance", "x", "--check-subset", "2/12"], "write 1/12"),
    (["repo", "maintenance", "x", "--check-subset", "much"], "like 1/12"),
    (["repo", "unlock", "x", "--remove-all"], "say --yes"),
    (["job", "run", "unlock", "--repo", "x", "--remove-all"], "say --yes"),
    (
        ["schedule", "add", "n", "--kind", "unlock", "--all", "--cron", "@daily", "--repo", "r", "--remove-all"],
        "--remove-all is for one run",
    ),
    (["repo", "copy", "x", "x", "--host", "h"], "onto itself"),
    (["repo", "copy", "x", "y"], "missing option '--host'"),
    (["schedule", "explain", "99 * * * *"], "99"),
    (["schedule", "explain", "* * * * * *"], "6 fields"),
    (["schedule", "explain", "@daily", "--timezone", "Europe/Berln"], "Europe/Berlin"),
    (["schedule", "explain", "@daily", "--after", "yesterday"], "'yesterday'"),
    (["schedule", "explain", "@daily", "--after", "2026-03-29T01:30:00"], "no UTC offset"),
    (["schedule", "explain", "@daily", "--count", "1001"], "--count 1001"),
    (["server", "--listen", "0.0.0.0:8787", "--tls", "off"], "--behind-proxy"),
    (["server", "--listen", "nonsense"], "--listen"),
    (["server", "--timezone", "Mars/Base"], "Mars/Base"),
    (["server", "--log-level", "loud"], "loud"),
    (["agent"], "--server"),
    (["agent", "--server", "http://x"], "ws://"),
    (["agent", "--server", "ws://x", "--reconnect-max", "0s"], "--reconnect-max"),
    (["agent", "--server", "ws://x", "--catch-up-delay", "soon"], "--catch-up-delay"),
    (["agent", "--server", "ws://x", "--token", "a", "--token-file", "b"], "only one"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_command_line_is_one_clear_line(
    command: Command, server: StubServer, words: list[str], told: str
) -> None:
    ended = command(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert told.lower() in ended.err.lower()
    assert server.asked == []


@pytest.mark.parametrize("words", [words for words, _ in WRONG if words[0] not in {"server", "agent"}])
def test_with_json_the_same_is_an_object_on_standard_error(command: Command, words: list[str]) -> None:
    ended = command(*words, "--json")
    assert ended.code == 2
    assert ended.out == ""
    told = msgspec.json.decode(ended.err)
    assert set(told) == {"error"}
    assert set(told["error"]) == {"code", "message"}
    assert told["error"]["code"] in {"usage", "invalid_input", "bad_schedule"}


def test_the_json_after_two_dashes_is_no_option(command: Command) -> None:
    assert command("host", "frobnicate", "--", "--json").err.startswith("error: ")


def test_a_newline_in_a_word_does_not_make_two_lines(command: Command) -> None:
    ended = command("host", "list", "two\nlines\x1b[2J")
    assert ended.err.count("\n") == 1
    assert "\x1b" not in ended.err


def test_the_bare_program_shows_its_help_and_did_nothing(command: Command) -> None:
    ended = command()
    assert ended.code == 2
    assert ended.out.startswith("Usage: restic-manager")


def test_version(command: Command) -> None:
    assert command("version").out == command("--version").out == f"restic-manager {__version__}\n"
    assert command("version", "--json").json == {"version": __version__}


def test_no_server_is_exit_5_and_says_what_to_do(command: Command, tmp_path: Path) -> None:
    ended = command("host", "list")
    assert ended.code == 5
    assert str(tmp_path / "server.sock") in ended.err
    assert "running?" in ended.err


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "bad_schedule", 2),
        (403, "not_permitted", 6),
        (404, "not_found", 4),
        (409, "conflict", 2),
        (507, "storage", 1),
        (500, "internal", 1),
    ],
)
def test_the_servers_no_becomes_an_exit_code(
    command: Command, server: StubServer, status: int, code: str, exit_code: int
) -> None:
    server.on("GET", "/v1/jobs/abc", (status, {"error": {"code": code, "message": "told why"}}))
    ended = command("job", "show", "abc")
    assert (ended.code, ended.out, ended.err) == (exit_code, "", "error: told why\n")
    ended = command("job", "show", "abc", "--json")
    assert ended.code == exit_code
    assert msgspec.json.decode(ended.err) == {"error": {"code": code, "message": "told why"}}


def test_which_server(command: Command, server: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.on("GET", "/v1/hosts", [])
    socket = str(tmp_path / "server.sock")
    config = tmp_path / "config.toml"
    config.write_text(f'[client]\nserver = "{socket}"\n')
    monkeypatch.setenv("RESTIC_MANAGER_DATA_DIR", "/nowhere")
    assert command("host", "list").code == 5
    assert command("host", "list", "--server", socket).code == 0
    assert command("host", "list", "--data-dir", str(tmp_path)).code == 0
    monkeypatch.setenv("RESTIC_MANAGER_SERVER", socket)
    assert command("host", "list").code == 0
    # A flag wins over the environment.
    assert command("host", "list", "--data-dir", "/nowhere").code == 5
    assert command("host", "list", "--server", "/nowhere.sock").code == 5
    monkeypatch.delenv("RESTIC_MANAGER_SERVER")
    monkeypatch.delenv("RESTIC_MANAGER_DATA_DIR")
    monkeypatch.setenv("RESTIC_MANAGER_CONFIG", str(config))
    assert command("host", "list").code == 0
    config.write_text(f'[server]\ndata_dir = "{tmp_path}"\n')
    assert command("host", "list").code == 0
    config.write_text('[client]\nserver = "nonsense"\n')
    ended = command("host", "list")
    assert ended.code == 2
    assert "client.server" in ended.err


def test_a_reader_that_has_seen_enough_is_no_failure(server: StubServer, tmp_path: Path) -> None:
    from tests.cli import samples

    server.on("GET", "/v1/hosts", [samples.host(name=f"host{number}") for number in range(5_000)])
    listing = f"{sys.executable} -m restic_manager host list --server {tmp_path / 'server.sock'}"
    line = f"{listing} | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.splitlines()[0].startswith("NAME")
    assert ended.stdout.splitlines()[1] == "0"
    assert ended.stderr == ""


def test_a_full_disk_behind_standard_output_is_a_failure() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "restic_manager", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode != 0
