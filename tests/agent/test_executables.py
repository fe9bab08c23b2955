"""Programs by name: what may be run, and what somebody else could have put there."""

from __future__ import annotations

from pathlib import Path

import pytest

from restic_manager.agent.executables import find
from restic_manager.domain.errors import NotPermittedError


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "hooks"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent):
        place.chmod(0o700)
    program = folder / "stop-db"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    return folder


def test_a_program_of_the_hosts_owner_is_found(hooks: Path) -> None:
    assert find(hooks, "stop-db") == hooks / "stop-db"


@pytest.mark.parametrize("name", ["", ".", "..", "../stop-db", "-x", ".hidden", "a/b", "a\n", "ä", "x" * 65, "/bin/sh"])
def test_a_name_is_never_a_path_or_an_option(hooks: Path, name: str) -> None:
    with pytest.raises(NotPermittedError, match="no program's name"):
        find(hooks, name)


@pytest.mark.parametrize("place", ["data", "data/hooks", "data/hooks/stop-db"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_what_others_can_write_is_not_run(hooks: Path, tmp_path: Path, place: str, mode: int) -> None:
    (tmp_path / place).chmod(mode)
    with pytest.raises(NotPermittedError, match="chmod go-w"):
        find(hooks, "stop-db")


def test_what_is_no_program_says_what_is_wrong_with_it(hooks: Path, tmp_path: Path) -> None:
    with pytest.raises(NotPermittedError, match="there is no"):
        find(hooks, "start-db")
    (hooks / "stop-db").chmod(0o600)
    with pytest.raises(NotPermittedError, match="not executable"):
        find(hooks, "stop-db")
    (hooks / "folder").mkdir(mode=0o700)
    with pytest.raises(NotPermittedError, match="not a regular file"):
        find(hooks, "folder")
    (hooks / "link").symlink_to("/bin/sh")
    with pytest.raises(NotPermittedError, match="not followed"):
        find(hooks, "link")
    moved = tmp_path / "elsewhere"
    hooks.rename(moved)
    hooks.symlink_to(moved)
    with pytest.raises(NotPermittedError, match="not a folder"):
        find(hooks, "stop-db")


def test_what_belongs_to_somebody_else_is_not_run(hooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = hooks.stat().st_uid
    monkeypatch.setattr("restic_manager.agent.executables.os.geteuid", lambda: owner + 1)
    monkeypatch.setattr("restic_manager.agent.executables._ROOT", owner + 2)
    with pytest.raises(NotPermittedError, match=f"belongs to user {owner}"):
        find(hooks, "stop-db")
