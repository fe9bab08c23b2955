"""Secrets reach a command from a file, standard input, the environment or a prompt, and never come out again."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from restic_manager.cli.render import Screen
from restic_manager.cli.secret_input import read_env_file, read_password
from restic_manager.domain.errors import InputError
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.stub_server import StubServer


def feed(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_a_file_is_read_as_restic_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xef\xbb\xbf  pass word \r\n")
    assert read_password(Screen(as_json=False), file=str(file), generate=False) == "pass word"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"secret\n")
    assert read_password(Screen(as_json=False), file="-", generate=False) == "secret"


def test_the_environment_is_used_and_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RESTIC_PASSWORD", " as it is ")
    assert read_password(Screen(as_json=False), file=None, generate=False) == " as it is "
    told = capsys.readouterr().err
    assert "RESTIC_PASSWORD" in told
    assert "as it is" not in told


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTIC_PASSWORD", "other")
    assert read_password(Screen(as_json=False), file=None, generate=True) is None


@pytest.mark.parametrize("content", [b"", b"\n", b" \t\n"])
def test_an_empty_password_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(InputError, match="empty"):
        read_password(Screen(as_json=False), file=str(file), generate=False)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 1_048_577])
def test_a_file_that_is_no_password_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_password(Screen(as_json=False), file=str(file), generate=False)
    assert str(file) in caught.value.message
    assert len(caught.value.message) < 200 + len(str(file))


def test_an_env_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(
        "# S3\n\nAWS_ACCESS_KEY_ID=abc\nexport AWS_SECRET_ACCESS_KEY='a=b $HOME'\n  EMPTY=\nQUOTED=\"x\"\nHALF='x\n"
    )
    assert read_env_file(str(file)) == {
        "AWS_ACCESS_KEY_ID": "abc",
        "AWS_SECRET_ACCESS_KEY": "a=b $HOME",
        "EMPTY": "",
        "QUOTED": "x",
        "HALF": "'x",
    }
    assert read_env_file(None) == {}


@pytest.mark.parametrize("line", ["hunter2", "=hunter2", "two words=hunter2", "export=hunter2; x", "é=hunter2"])
def test_a_wrong_line_is_named_by_number_and_not_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"A=1\n{line}\n", encoding="utf-8")
    if line.startswith("export="):
        assert read_env_file(str(file))["export"] == "hunter2; x"
        return
    with pytest.raises(InputError) as caught:
        read_env_file(str(file))
    assert "line 2" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\nA=2\n")
    with pytest.raises(InputError, match="A is given twice"):
        read_env_file(str(file))


def test_repo_add_sends_the_secret_and_prints_none(command: Command, server: StubServer, tmp_path: Path) -> None:
    password, env = tmp_path / "password", tmp_path / "env"
    password.write_text("hunter2\n")
    env.write_text("AWS_SECRET_ACCESS_KEY=hunter3\n")
    server.on("POST", "/v1/repos", (201, samples.repo()))
    ended = command("repo", "add", "main", "/srv/restic", "--password-file", str(password), "--env-file", str(env))
    assert ended.code == 0
    assert server.asked[0].body == {
        "name": "main",
        "url": "/srv/restic",
        "password": "hunter2",
        "password_from": None,
        "user": None,
        "user_password": None,
        "user_password_from": None,
        "env": {"AWS_SECRET_ACCESS_KEY": "hunter3"},
        "env_from": {},
        "append_only": False,
        "max_parallel": 4,
        "chunker_from": None,
    }
    assert "hunter" not in ended.out + ended.err


def test_a_generated_password_is_printed_once_with_advice(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/repos", (201, samples.repo(generated_password="made-by-the-server")))
    ended = command("repo", "add", "main", "/srv/restic", "--generate-password")
    assert server.asked[0].body["password"] is None
    assert ended.out == "made-by-the-server\n"
    assert "keep it elsewhere too" in ended.err
    assert "made-by" not in ended.err
