"""What a command costs before it does anything: told by what it imports, which no load on the machine changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import samples
from tests.cli.stub_server import StubServer

PROBE = """
import sys
from restic_manager.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(code, *sorted(sys.modules), file=sys.stderr)
"""

NEVER = {"trio", "sqlalchemy", "alembic", "starlette", "hypercorn", "croniter", "pydantic", "cryptography", "asyncio"}


def imported(*words: str) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, timeout=30, check=True
    )
    code, *modules = ended.stderr.splitlines()[-1].split()
    assert code == "0", ended.stderr
    return set(modules)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["schedule", "add", "--help"],
        ["job", "run", "--help"],
        ["snapshot", "ls", "--help"],
        ["restore", "--help"],
        ["repo", "maintenance", "--help"],
        ["version"],
    ],
)
def test_help_imports_next_to_nothing(words: list[str]) -> None:
    modules = imported(*words)
    assert not modules & (NEVER | {"rich", "http.client", "ssl", "restic_manager.client", "zoneinfo"})


def test_operators_commands_import_neither_trio_nor_the_store(server: StubServer, tmp_path: Path) -> None:
    server.on("GET", "/v1/status", samples.status_view())
    server.on("GET", "/v1/jobs/abc", samples.job())
    server.on("GET", "/v1/jobs?limit=50", [samples.job()])
    server.on("GET", "/v1/schedules/nightly", samples.schedule())
    at = ["--server", str(tmp_path / "server.sock")]
    for words in (["status"], ["job", "show", "abc"], ["job", "list"], ["schedule", "show", "nightly"]):
        assert not imported(*words, *at) & NEVER, words
    assert "rich" not in imported("status", "--json", *at)


def test_only_explain_reads_cron_expressions_here() -> None:
    modules = imported("schedule", "explain", "30 2 * * *", "--timezone", "UTC")
    assert "croniter" in modules
    assert not modules & (NEVER - {"croniter"})
