"""What a host allows, as its administrator and the operators see it: real processes, real restic, typed commands."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import CHECKOUT, Stage, stage
from tests.support.restic_binaries import REAL_RESTICS, RealRestic

pytestmark = pytest.mark.parametrize("real", REAL_RESTICS[-1:])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as set_up:
        set_up.start_server()
        yield set_up


def on_host(here: Stage, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command on a host, as its administrator does."""
    return subprocess.run(
        [sys.executable, "-m", "restic_manager", *words],
        env=here.env(here.folder / f"agent-{name}"),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_line_to_paste_shows_what_it_allows_and_the_host_keeps_it(here: Stage, real: RealRestic) -> None:
    here.add_repo()
    wrong = here.run("host", "invite", "keeper", "--allow", "forgett")
    assert wrong.returncode == 2
    assert "did you mean forget?" in wrong.stderr
    line = here.ok("host", "invite", "keeper", "--allow", "forget,prune", "--repo", "main").strip()
    words = shlex.split(line)
    assert words[-2:] == ["--allow", "forget,prune"]
    token = words[words.index("--token") + 1]
    here.start_agent("keeper", "--token", token, "--allow", "forget,prune", restic=real.path, policy=None)
    here.start_agent("plain", restic=real.path, policy=None)
    assert "forget" in here.json("host", "show", "keeper")["kinds"]
    assert "forget" not in here.json("host", "show", "plain")["kinds"]
    shown = json.loads(on_host(here, "keeper", "agent", "policy", "show", "--json").stdout)
    assert shown["policy"]["kinds"] == ["default", "forget", "prune"]

    # Whoever wants retention is told which hosts will refuse it, and where that is changed.
    here.ok("repo", "init", "main", "--host", "keeper", "--wait")
    made = here.json(
        "schedule",
        "add",
        "nightly",
        "--all",
        "--cron",
        "0 3 * * *",
        "--repo",
        "main",
        "--keep-last",
        "2",
        "/etc/hostname",
    )
    warned = [said for said in made["warnings"] if "refuse" in said]
    assert len(warned) == 1
    assert warned[0].startswith("plain will refuse forget: the policy there does not allow it")
    assert warned[0].endswith("restic-manager agent policy allow-kind forget)")


def test_a_refusal_tells_the_operator_what_the_administrator_can_do(here: Stage, real: RealRestic) -> None:
    source, target = here.folder / "source", here.folder / "target"
    source.mkdir()
    (source / "file").write_text("precious")
    here.add_repo()
    here.start_agent("web1", restic=real.path, policy=None)
    here.ok("repo", "init", "main", "--host", "web1", "--wait")
    here.ok("schedule", "add", "nightly", "--host", "web1", "--cron", "0 3 * * *", "--repo", "main", str(source))
    here.ok("schedule", "run", "nightly", "--wait")

    asked = ("restore", "latest", "--host", "web1", "--path", str(source), "--to", str(target), "--wait")
    refused = here.run(*asked)
    assert refused.returncode == 1
    said = refused.stdout + refused.stderr
    command = said[said.index("`restic-manager agent policy") + 1 :].partition("`")[0].split()
    assert command[3:5] == ["allow-restore", str(target / str(source)[1:])] or command[4] == str(target)
    assert not target.exists()
    allowed = on_host(here, "web1", "agent", "policy", "allow-restore", str(target))
    assert allowed.returncode == 0, allowed.stderr
    here.ok(*asked)
    assert (target / str(source)[1:] / "file").read_text() == "precious"

    # The same into the agent's own folder needs no word.
    own = here.folder / "agent-web1" / "restores" / "back"
    here.ok("restore", "latest", "--host", "web1", "--path", str(source), "--to", str(own), "--wait")
    # Another repository does.
    here.add_repo("other")
    other = here.run("repo", "init", "other", "--host", "web1", "--wait")
    assert other.returncode == 1
    assert "agent policy allow-repository" in other.stdout + other.stderr

    # A policy that nobody can believe refuses everything, and an agent does not start with it.
    (here.folder / "agent-web1" / "agent-policy.toml").chmod(0o666)
    broken = here.run("schedule", "run", "nightly", "--wait")
    assert broken.returncode == 1
    assert "writable by others" in broken.stdout + broken.stderr
    here.agents["web1"].stop()
    again = here.start_agent("web1", restic=real.path, wait=False)
    assert again.ended() == 2
    assert "chmod go-w" in again.said()


def test_hooks_and_commands_of_the_hosts_own(here: Stage, real: RealRestic) -> None:
    data = here.folder / "agent-db1"
    here.allow("db1", 'hooks = ["stop-db", "start-db"]\ncommands = ["dump-db"]\n')
    for name, script in (
        ("hooks/stop-db", f"echo stopped >> {here.folder}/ran"),
        ("hooks/start-db", f'echo "$RESTIC_MANAGER_STATUS $RESTIC_MANAGER_KIND" >> {here.folder}/ran'),
        ("commands/dump-db", f"env > {here.folder}/env; echo all the rows"),
    ):
        path = data / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
    here.add_repo(password="right-horse")
    here.start_agent("db1", restic=real.path)
    here.ok("repo", "init", "main", "--host", "db1", "--wait")
    words = ("--host", "db1", "--cron", "0 3 * * *", "--repo", "main")
    hooks = ("--hook-before", "stop-db", "--hook-finally", "start-db", "--hook-time-limit", "30s")
    made = here.json(
        "schedule", "add", "dump", *words, *hooks, "--stdin-from-command", "dump-db", "--stdin-name", "db.sql"
    )
    assert made["hooks"] == {
        "before": ["stop-db"],
        "after": [],
        "on_failure": [],
        "finally": ["start-db"],
        "time_limit": 30,
    }
    here.ok("schedule", "run", "dump", "--wait")
    assert (here.folder / "ran").read_text().splitlines() == ["stopped", "succeeded backup"]
    plain = real.run(str(here.folder / "repo-main"), "dump", "latest", "/db.sql", password="right-horse")
    assert plain == "all the rows\n"
    # restic has the password; what it starts has not.
    assert "right-horse" not in (here.folder / "env").read_text()
    assert "RESTIC_" not in (here.folder / "env").read_text().replace("RESTIC_MANAGER_", "")

    here.ok("schedule", "edit", "dump", "--hook-before", "not-there", "--yes")
    refused = here.run("schedule", "run", "dump", "--wait")
    assert refused.returncode == 1
    assert "agent policy allow-hook not-there" in refused.stdout + refused.stderr
    assert (here.folder / "ran").read_text().splitlines() == ["stopped", "succeeded backup"]
    # A command that fails makes no snapshot that looks like one.
    (data / "commands" / "dump-db").write_text("#!/bin/sh\necho half; exit 1\n")
    here.ok("schedule", "edit", "dump", "--hook-before", "", "--yes")
    failed = here.run("schedule", "run", "dump", "--wait")
    assert failed.returncode == 1
    assert (here.folder / "ran").read_text().splitlines()[-1] == "failed backup"
    assert len(json.loads(real.run(str(here.folder / "repo-main"), "snapshots", "--json", password="right-horse"))) == 1
