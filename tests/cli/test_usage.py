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
    (["frobnicate"], "there are status, host, repo, schedule, job, pause, resume, server, agent, version"),
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
    (["schedule", "edit", "n", "--path", ""], "nothing to save"),
    (["schedule", "edit", "n", "--path", "etc"], "'etc' is relative"),
    (["schedule", "explain", "99 * * * *"], "99"),
    (["schedule", "explain", "* * * * * *"], "6 fields"),
    (["schedule", "explain", "@daily", "--timezone", "Europe/Berln"], "Europe/Berlin"),
    (["schedule", "explain", "@daily", "--after", "yesterday"], "'yesterday'"),
    (["schedule", "explain", "@daily", "--after", "2026-03-29T01:30:00"], "no UTC offset"),
    (["schedule", "explain", "@daily", "--count", "1001"], "--count 1001"),
    (["server", "--listen", "0.0.0.0:8787"], "--listen"),
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
