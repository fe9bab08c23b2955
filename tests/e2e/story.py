"""A backup's whole life, told by the commands an operator types, and compared with what plain restic says and writes.

    python -m tests.e2e.story                     every version of restic on every kind of storage
    python -m tests.e2e.story --restic 0.18.0 --storage append-only

init, ten backups of changing files, find, diff, forget, prune, check, restore to elsewhere and in place, verify, copy,
unlock after a kill. `test_story` tells it once for each version and each storage.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.stage import Stage, stage, until
from tests.support.quick_key import make_quick
from tests.support.restic_binaries import FOLDER, WANTED, RealRestic, rest_server

STORAGES: Final = ("local", "rest", "append-only")
BACKUPS: Final = 10
KEPT: Final = 3
PASSWORD: Final = "pw"
ODD_NAME: Final = b"not-utf8-\xff\xfe.txt"


@dataclass(frozen=True)
class Told:
    """What a story came to: each step with the seconds it took."""

    steps: tuple[tuple[str, float], ...]


class Tree:
    """A folder of real files that changes from backup to backup, the same way for the same seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self._random = random.Random(seed)  # noqa: S311 - files to back up, the same for the same seed
        folder.mkdir()
        for number in range(30):
            self._write(f"sub-{number % 4}/file-{number}.bin", self._random.randrange(1, 40_000))
        self._write("empty.txt", 0)
        self._write("--delete", 100)
        self._write("with a\nnewline", 50)
        Path(os.fsdecode(os.fsencode(folder) + b"/" + ODD_NAME)).write_bytes(b"odd")
        (folder / "link").symlink_to("sub-0/file-0.bin")
        (folder / "big.bin").write_bytes(self._random.randbytes(3 << 20))

    def change(self, number: int) -> None:
        """Rewrite, add and remove some files, as a day does."""
        self._write(f"sub-{number % 4}/file-{number}.bin", self._random.randrange(1, 40_000))
        self._write(f"new-{number}.bin", 5_000)
        (self.folder / f"new-{number - 2}.bin").unlink(missing_ok=True)
        with (self.folder / "big.bin").open("r+b") as big:
            big.seek(self._random.randrange(3 << 20))
            big.write(self._random.randbytes(1_000))

    def _write(self, name: str, length: int) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._random.randbytes(length))


def pictured(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Return every file, folder and link below a folder: what it is, its rights, its time, and a hash of its bytes."""
    found: dict[bytes, tuple[object, ...]] = {}
    root = os.fsencode(folder)
    for where, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(where, name)  # noqa: PTH118 - bytes
            facts = os.lstat(path)
            key = os.path.relpath(path, root)
            if os.path.islink(path):  # noqa: PTH114 - bytes
                found[key] = ("link", os.readlink(path))  # noqa: PTH115 - bytes
            elif os.path.isdir(path):  # noqa: PTH112 - bytes
                found[key] = ("folder", facts.st_mode)
            else:
                with open(path, "rb") as file:  # noqa: PTH123 - bytes
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                found[key] = ("file", facts.st_mode, facts.st_mtime_ns // 1_000, facts.st_size, content)
    return found


class Plain:
    """The repository, asked by restic itself, past everything of ours."""

    def __init__(self, real: RealRestic, repo: Path) -> None:
        self._real = real
        self.repo = repo

    def words(self, *words: str) -> str:
        return self._real.run(str(self.repo), *words, password=PASSWORD)

    def ids(self) -> set[str]:
        return {path.name for path in (self.repo / "snapshots").iterdir()}

    def leave_a_lock(self) -> None:
        """Begin a backup with restic itself and kill it: its lock stays."""
        env = {**os.environ, "RESTIC_REPOSITORY": str(self.repo), "RESTIC_PASSWORD": PASSWORD}
        env["RESTIC_CACHE_DIR"] = str(self.repo.with_name("killed-cache"))
        with subprocess.Popen(
            [str(self._real.path), "backup", "--stdin"], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as killed:
            until("restic to have its lock", lambda: self._lock_of(killed.pid))
            killed.send_signal(signal.SIGKILL)
            killed.wait(10)

    def _lock_of(self, pid: int) -> bool:
        ids = self.words("list", "locks", "--no-lock").split()
        return any(json.loads(self.words("cat", "lock", lock, "--no-lock"))["pid"] == pid for lock in ids)


class Story:
    """One telling: a server, its hosts, one version of restic, one kind of storage."""

    def __init__(self, here: Stage, real: RealRestic, storage: str, urls: list[str]) -> None:
        self.here = here
        self.real = real
        self.storage = storage
        self.urls = urls
        self.served = here.folder / "served"
        self.plain = Plain(real, self.served / "main")
        self.tree = Tree(here.folder / "source", seed=len(storage))
        self.steps: list[tuple[str, float]] = []
        self.keeper = "keeper" if storage == "append-only" else "web1"

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps.append((name, time.monotonic() - began))

    def ok(self, *words: str) -> str:
        return self.here.ok(*words)

    def json(self, *words: str) -> Any:
        return self.here.json(*words)

    def tell(self) -> Told:
        """Tell it all; raise AssertionError where something is not as it should be."""
        for chapter in (
            self.begin,
            self.ten_backups,
            self.lists_agree,
            self.finds,
            self.differs,
            self.forgets,
            self.prunes_and_checks,
            self.restores_elsewhere,
            self.restores_in_place,
            self.restores_one_file,
            self.proves,
            self.copies,
            self.unlocks,
        ):
            with self.step(chapter.__name__):
                chapter()
        self.plain.words("check", "--read-data")
        return Told(tuple(self.steps))

    def begin(self) -> None:
        here = self.here
        here.start_server()
        here.start_agent("web1", restic=self.real.path)
        flags = ("--append-only",) if self.storage == "append-only" else ()
        here.ok("repo", "add", "main", self._url("main"), "--password-file", "-", *flags, stdin=PASSWORD + "\n")
        if self.storage == "append-only":
            here.start_agent("keeper", restic=self.real.path)
            here.ok("repo", "maintenance", "main", "--maintainer", "keeper", "--maintainer-url", self._url("main", 1))
        here.ok("repo", "init", "main", "--host", "web1", "--wait")
        make_quick(self.plain.repo, PASSWORD)
        here.ok(
            *("schedule", "add", "nightly", "--cron", "0 3 1 1 *", "--host", "web1", "--repo", "main"),
            *("--tag", "mine", str(self.tree.folder)),
        )

    def ten_backups(self) -> None:
        for number in range(BACKUPS):
            if number:
                self.tree.change(number)
            (job,) = self.json("schedule", "run", "nightly", "--wait")
            assert job["status"] == "succeeded", job
        assert len(self.plain.ids()) == BACKUPS

    def lists_agree(self) -> None:
        listed = self.json("snapshot", "list", "--repo", "main", "--refresh")
        assert {one["id"] for one in listed} == self.plain.ids()
        assert {one["host"] for one in listed} == {"web1"}
        assert {one["schedule"] for one in listed} == {"nightly"}
        assert {tuple(one["tags"]) for one in listed} == {("mine",)}
        times = [one["time"] for one in listed]
        assert times == sorted(times, reverse=True)
        self.newest, self.oldest = listed[0]["id"], listed[-1]["id"]
        names = {row["path"] for row in self.json("snapshot", "ls", self.newest[:12], str(self.tree.folder))}
        assert f"{self.tree.folder}/not-utf8-\\xff\\xfe.txt" in names
        assert f"{self.tree.folder}/big.bin" in names

    def finds(self) -> None:
        found = self.json("snapshot", "find", "new-5.bin", "--repo", "main")
        plain = self.plain.words("find", "new-5.bin")
        assert {row["path"] for row in found} == {f"{self.tree.folder}/new-5.bin"}
        assert len(found) == 2  # it was there for two days
        assert all(row["snapshot"][:8] in plain for row in found)

    def differs(self) -> None:
        rows = self.json("snapshot", "diff", self.oldest[:12], self.newest[:12])
        plain = self.plain.words("diff", self.oldest, self.newest)
        paths = {row["path"] for row in rows}
        assert f"{self.tree.folder}/new-9.bin" in paths
        assert f"{self.tree.folder}/new-1.bin" not in paths
        assert all(f"{path}" in plain for path in paths if "\\x" not in path)

    def forgets(self) -> None:
        if self.storage == "append-only":
            words = ("job", "run", "forget", "--snapshot", self.oldest, "--host", "web1", "--repo", "main", "--wait")
            refused = self.here.run(*words)
            assert refused.returncode == 1, refused
            assert "append-only" in refused.stdout + refused.stderr, refused
            assert len(self.plain.ids()) == BACKUPS
        self.ok("schedule", "edit", "nightly", "--keep-last", str(KEPT))
        rows = self.json("schedule", "forget-preview", "nightly")
        assert [row["keep"] for row in rows].count(True) == KEPT
        assert len(rows) == BACKUPS
        assert len(self.plain.ids()) == BACKUPS
        self.ok("host", "rename", "web1", "web-one")
        self.ok("schedule", "edit", "nightly", "--name", "daily", "--tag", "other")
        self.ok("job", "run", "forget", "--host", self._keeper(), "--repo", "main", "--wait")
        assert self.plain.ids() == {row["snapshot"]["id"] for row in rows if row["keep"]}
        self.tree.change(BACKUPS)
        (job,) = self.json("schedule", "run", "daily", "--wait")
        until("the forget after the backup", lambda: len(self.plain.ids()) == KEPT)
        self.newest = job["snapshot_id"]

    def prunes_and_checks(self) -> None:
        before = self._stored()
        self.ok("job", "run", "prune", "--host", self._keeper(), "--repo", "main", "--max-unused", "0", "--wait")
        assert self._stored() < before
        self.ok("job", "run", "check", "--host", self._keeper(), "--repo", "main", "--read-data", "--wait")

    def restores_elsewhere(self) -> None:
        target = self.here.folder / "restored"
        self.ok("restore", "latest", "--host", "web-one", "--to", str(target), "--wait", "--yes")
        assert pictured(target / str(self.tree.folder).lstrip("/")) == pictured(self.tree.folder)

    def restores_in_place(self) -> None:
        want = pictured(self.tree.folder)
        (self.tree.folder / "big.bin").write_bytes(b"ruined")
        (self.tree.folder / "sub-1" / "file-5.bin").unlink()
        Path(os.fsdecode(os.fsencode(self.tree.folder) + b"/" + ODD_NAME)).unlink()
        if self.real.version == "0.14.0":  # which cannot write a link where there is one
            (self.tree.folder / "link").unlink()
        self.ok(
            *("restore", "latest", "--host", "web-one", "--in-place", "--path", str(self.tree.folder)),
            *("--overwrite", "always", "--wait", "--yes"),
        )
        assert pictured(self.tree.folder) == want

    def restores_one_file(self) -> None:
        path = self.tree.folder / "big.bin"
        words = ("restore", "latest", "--host", "web-one", "--path", str(path), "--stdout")
        done = subprocess.run(
            [sys.executable, "-m", "restic_manager", *words],
            env=self.here.env(self.here.data),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == path.read_bytes()

    def proves(self) -> None:
        self.ok("job", "run", "verify", "--host", "web-one", "--repo", "main", "--files", "100", "--wait")
        assert self.json("host", "show", "web-one")["proven_at"] is not None
        left = [path.name for path in self.here.folder.rglob("verify-*")]
        assert left == []

    def copies(self) -> None:
        self.here.ok(
            *("repo", "add", "second", str(self.here.folder / "second"), "--password-file", "-"),
            *("--chunker-from", "main"),
            stdin=PASSWORD + "\n",
        )
        self.ok("repo", "init", "second", "--host", "web-one", "--wait")
        make_quick(self.here.folder / "second", PASSWORD)
        self.ok("repo", "copy", "main", "second", "--host", "web-one", "--wait")
        copied = Plain(self.real, self.here.folder / "second")
        assert len(copied.ids()) == KEPT
        plain = self.here.folder / "plain-restored"
        copied.words("restore", "latest", "--target", str(plain))
        assert pictured(plain / str(self.tree.folder).lstrip("/")) == pictured(self.tree.folder)
        chunker = [
            self.real.run(str(repo), "cat", "config", password=PASSWORD) for repo in (self.plain.repo, copied.repo)
        ]
        assert len({line for text in chunker for line in text.splitlines() if "chunker_polynomial" in line}) == 1

    def unlocks(self) -> None:
        assert self.json("repo", "locks", "main") == []
        self.plain.leave_a_lock()
        (lock,) = self.json("repo", "locks", "main")
        assert lock["hostname"] == os.uname().nodename
        self.ok("repo", "unlock", "main")
        assert self.json("repo", "locks", "main") == []

    def _keeper(self) -> str:
        return "keeper" if self.storage == "append-only" else "web-one"

    def _stored(self) -> int:
        return sum(path.stat().st_size for path in (self.plain.repo / "data").rglob("*") if path.is_file())

    def _url(self, name: str, which: int = 0) -> str:
        return str(self.served / name) if self.storage == "local" else f"rest:{self.urls[which]}{name}/"


def tell(folder: Path, real: RealRestic, storage: str) -> Told:
    """Given an empty folder, a restic and a kind of storage, tell the story there."""
    served = folder / "served"
    served.mkdir()
    with ExitStack() as stack:
        urls = []
        if storage == "append-only":
            urls.append(stack.enter_context(rest_server(served, "--append-only")))
        if storage != "local":
            urls.append(stack.enter_context(rest_server(served)))
        return Story(stack.enter_context(stage(folder)), real, storage, urls).tell()


def main() -> int:
    """Tell every story asked for; print each step's seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--restic", action="append", choices=WANTED)
    parser.add_argument("--storage", action="append", choices=STORAGES)
    asked = parser.parse_args()
    failed = 0
    for version in asked.restic or WANTED:
        for storage in asked.storage or STORAGES:
            folder = Path(tempfile.mkdtemp(prefix="story-"))
            began = time.monotonic()
            try:
                told = tell(folder, RealRestic(version, FOLDER / version / "restic"), storage)
            except Exception:  # noqa: BLE001 - each story fails alone
                failed += 1
                sys.stdout.write(f"{version} {storage}: FAILED in {folder}: {traceback.format_exc()}\n")
                continue
            shutil.rmtree(folder)
            steps = ", ".join(f"{name} {took:.1f}" for name, took in told.steps)
            sys.stdout.write(f"{version} {storage}: told in {time.monotonic() - began:.0f} s ({steps})\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
