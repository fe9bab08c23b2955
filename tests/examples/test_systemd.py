"""The systemd units: they parse, and hold what the programs in them rely on."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from restic_manager.agent import app as agent_app
from restic_manager.config import AgentConfig
from restic_manager.restic.process import Patience
from restic_manager.server import operators

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "examples" / "systemd"
MODES = ("server", "agent")


def unit(mode: str) -> dict[str, list[str]]:
    """Given a mode, return its unit's settings: every value of every key, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (UNITS / f"restic-manager-{mode}.service").read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, separator, value = line.partition("=")
            assert separator, line
            found[key].append(value)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_only_the_program_itself_gets_the_first_signal(mode: str) -> None:
    settings = unit(mode)
    assert settings["KillMode"] == ["mixed"]
    assert "KillSignal" not in settings
    assert "SendSIGKILL" not in settings


@pytest.mark.parametrize("mode", MODES)
def test_it_runs_the_mode_it_is_named_for(mode: str) -> None:
    settings = unit(mode)
    assert settings["ExecStart"] == [f"/opt/restic-manager/bin/restic-manager {mode}"]
    assert settings["WantedBy"] == ["multi-user.target"]


@pytest.mark.parametrize("mode", MODES)
def test_its_files_are_its_own(mode: str) -> None:
    settings = unit(mode)
    (folder,) = settings["StateDirectory"]
    assert f"RESTIC_MANAGER_DATA_DIR=%S/{folder}" in settings["Environment"]
    assert settings["StateDirectoryMode"] == ["0700"]
    assert settings["UMask"] == ["0077"]


def test_the_server_and_the_agent_of_one_machine_do_not_share_a_folder() -> None:
    assert unit("server")["StateDirectory"] != unit("agent")["StateDirectory"]


def test_operators_find_the_servers_socket_where_root_looks_by_default() -> None:
    assert unit("server")["StateDirectory"] == ["restic-manager"]  # /var/lib/restic-manager


def test_there_is_time_for_the_agents_cancel_ladder() -> None:
    longest = AgentConfig(server_url="ws://h", data_dir=Path("/x")).cancel_grace
    longest += Patience().kill + Patience().drain + agent_app._FAREWELL_WITHIN
    assert longest + 20 <= float(unit("agent")["TimeoutStopSec"][0])


def test_there_is_time_for_the_server_to_drain() -> None:
    assert float(unit("server")["TimeoutStopSec"][0]) >= operators.FINISH_SECONDS + 20


def test_the_agent_can_read_every_file_and_little_else() -> None:
    settings = unit("agent")
    assert settings["CapabilityBoundingSet"] == ["CAP_DAC_READ_SEARCH"]
    assert "User" not in settings
    assert "DynamicUser" not in settings
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["ProtectHome"] == ["read-only"]
    # These would hide from a backup what is on the machine.
    assert not {"PrivateTmp", "PrivateDevices", "InaccessiblePaths", "TemporaryFileSystem"} & settings.keys()
    # /tmp is read-only by ProtectSystem=strict, and restic writes temporary files.
    assert f"TMPDIR=%C/{settings['CacheDirectory'][0]}" in settings["Environment"]


def test_the_server_has_no_rights_at_all() -> None:
    settings = unit("server")
    assert settings["DynamicUser"] == ["yes"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["NoNewPrivileges"] == ["yes"]
    assert int(settings["LimitNOFILE"][0]) >= 65_536


@pytest.mark.parametrize("mode", MODES)
def test_every_variable_it_names_is_one_that_is_read(mode: str) -> None:
    text = (UNITS / f"restic-manager-{mode}.service").read_text()
    source = "".join(file.read_text() for file in (ROOT / "restic_manager").rglob("*.py"))
    for name in set(re.findall(r"RESTIC_MANAGER_[A-Z_]+", text)):
        assert f'"{name}"' in source, name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("mode", MODES)
def test_systemd_finds_nothing_wrong_with_it(mode: str, tmp_path: Path) -> None:
    text = (UNITS / f"restic-manager-{mode}.service").read_text()
    copy = tmp_path / f"restic-manager-{mode}.service"
    # systemd checks that the program is there, which it is not on this machine.
    copy.write_text(text.replace("/opt/restic-manager/bin/restic-manager", "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
