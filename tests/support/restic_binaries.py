"""The real binaries that `tests/tools/get_restic.sh` has fetched, as pytest parameters that skip with the reason.

@pytest.mark.parametrize("real", REAL_RESTICS)      # one case a version, marked `restic`
def test_x(real: RealRestic): ...
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

WANTED = ("0.14.0", "0.18.0", "0.19.1")
FOLDER = Path(os.environ.get("RESTIC_MANAGER_TEST_BIN") or Path(__file__).parents[2] / ".cache" / "restic")
_REASON = "tests/tools/get_restic.sh has not fetched it"
Case = TypeVar("Case")


@dataclass(frozen=True)
class RealRestic:
    """One real restic."""

    version: str
    path: Path

    def run(self, repo: str, *words: str, password: str = "pw", check: bool = True) -> str:
        """Given a repository and words, run restic on it the plain way and return its stdout."""
        env = {**os.environ, "RESTIC_REPOSITORY": repo, "RESTIC_PASSWORD": password}
        env.setdefault("RESTIC_CACHE_DIR", str(Path(repo).with_name("plain-cache")) if repo.startswith("/") else "/tmp")
        done = subprocess.run([str(self.path), *words], env=env, capture_output=True, timeout=60, check=False)
        if check and done.returncode:
            raise AssertionError(f"restic {words} ended {done.returncode}: {os.fsdecode(done.stderr)}")
        return os.fsdecode(done.stdout)


def _binaries() -> list[RealRestic]:
    found = [RealRestic(path.parent.name, path) for path in FOLDER.glob("*/restic") if os.access(path, os.X_OK)]
    return sorted(found, key=lambda real: [int(part) for part in real.version.split(".")])


def _case(value: Case, name: str, *, there: bool) -> Case:
    marks = [pytest.mark.restic]
    if not there:
        marks.append(pytest.mark.skip(reason=f"no {name}: {_REASON}"))
    return pytest.param(value, id=name, marks=marks)  # type: ignore[return-value]


_BINARIES = _binaries()
_ABSENT = [RealRestic(version, FOLDER / version / "restic") for version in WANTED]
REAL_RESTICS: list[RealRestic] = [_case(real, f"restic-{real.version}", there=True) for real in _BINARIES] + [
    _case(real, f"restic-{real.version}", there=False)
    for real in _ABSENT
    if real.version not in {found.version for found in _BINARIES}
]
"""For `parametrize`: every version there is, and a skipped case for each wanted one that is not."""


def newest() -> RealRestic | None:
    """Return the newest of the versions there are, None for none."""
    return max(_BINARIES, key=lambda real: tuple(map(int, real.version.split("."))), default=None)


REST_SERVER = FOLDER / "rest-server" / "rest-server"
needs_rest_server = pytest.mark.skipif(not os.access(REST_SERVER, os.X_OK), reason=f"no rest-server: {_REASON}")


@contextmanager
def rest_server(folder: Path, *flags: str, login: bool = False) -> Iterator[str]:
    """Given a folder and further flags (`--append-only`), serve it on a free port; yield `http://127.0.0.1:PORT/`.

    login: ask for the users in the folder's `.htpasswd`.
    """
    argv = [str(REST_SERVER), "--path", str(folder), "--listen", "127.0.0.1:0", *flags]
    if not login:
        argv.append("--no-auth")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if match := re.search(r"(?:listening|start server) on (?:\S*127\.0\.0\.1|\S*\]):(\d+)", line):
                    yield f"http://127.0.0.1:{match[1]}/"
                    break
            else:
                raise AssertionError(f"rest-server ended with {process.wait()} before it listened")
        finally:
            process.kill()
            process.wait()
