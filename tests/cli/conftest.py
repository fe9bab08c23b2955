"""A scripted server, and the command line asked in this process against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from restic_manager.cli.main import main
from tests.cli.stub_server import StubServer, serving


class Ended(NamedTuple):
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return msgspec.json.decode(self.out)


Command = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the person who runs the tests may reach them, nor may they reach that person's server."""
    for name in (
        "RESTIC_MANAGER_SERVER",
        "RESTIC_MANAGER_CONFIG",
        "RESTIC_MANAGER_OPERATOR_TOKEN",
        "RESTIC_MANAGER_SERVER_PIN",
        "RESTIC_PASSWORD",
        "COLUMNS",
        "FORCE_COLOR",
        "NO_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RESTIC_MANAGER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubServer]:
    with serving(tmp_path / "server.sock") as stub:
        yield stub


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Given a command line, run it here and return exit code, standard output and standard error."""

    def run(*words: str) -> Ended:
        capfd.readouterr()
        code = main(list(words))
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return run
