#!/usr/bin/env python3
"""A restic for tests: a real executable with a real little repository, that does what a scenario tells it to.

As a program it uses the standard library only and starts in about 20 ms. `install(folder, scenario)` puts one at
`folder/restic` and returns a `FakeRestic` to steer it and to read what it was asked; run straight, it reads the file
named by FAKE_RESTIC_SCENARIO. Without a scenario it is restic 0.18.0 in good health: `init` makes a repository (a
folder), `backup` saves a snapshot in it quickly, and without a repository or with a wrong password it fails as that
version fails, in that version's words.

Scenario (JSON, all optional):
  version     "0.14.0", "0.18.0" (default), "0.19.1": words, exit codes and signals follow it
  version_text  what `version` prints instead
  env         names of variables to record with each invocation (RESTIC_REPOSITORY and the job id always are)
  backup, init, cat, snapshots, list, unlock, forget, prune, check, stats, restore, copy, ls, find, diff, tag, dump
              how that command behaves; a list: one for each invocation, in turn, the last one again and again. (forget
              knows --keep-last, --tag, --host and ids; the files of every snapshot are `/etc/one` and `/etc/two`, and
              hold their names.) A behaviour is an object:
    ignore    signals to ignore, as ["SIGINT", "SIGTERM"]
    steps     what to do INSTEAD of the command's own work, in order; each one of
      {"stdout": TEXT} {"stderr": TEXT}     write a line          {"stdout_json": {…}} {"stderr_json": {…}}
      {"hex": "ff0a", "to": "stderr"}       write bytes as they are       {"bytes": COUNT}  every byte there is, in turn
      {"nodes": COUNT}  {"listed": COUNT}   what an ls of so many files says; a list of so many snapshots
      {"long_line": BYTES, "to": "stdout"}  one line that long    {"flood": LINES}  to both pipes in turn
      {"sleep": SECONDS}                    {"wait_for": PATH}    until it exists   {"touch": PATH}
      {"grandchild": SECONDS, "session": true}  a child holding our pipes, with true in a session of its own; its pid is
                                            told on stdout as `grandchild PID`
      {"stdin_end": true}                   until our stdin ends
      {"lock": true}  {"snapshot": true}    leave a lock, save a snapshot
      {"run": true}                         the command's own work, here
      {"kill": "SIGKILL"}  {"exit": CODE}   end

Record: one JSON object a line in `invocations.jsonl` beside the executable: {"event": "start", "argv", "env", "pid",
"ppid", "time", "monotonic"}, then {"event": "signal", …} and {"event": "end", "code", …} where it gets that far.
"""

# pathlib alone would add a third to the start of every fake:
# ruff: noqa: PTH100, PTH101, PTH103, PTH104, PTH105, PTH108, PTH110, PTH112, PTH118, PTH120, PTH123, PTH208

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class _Fake:
    """One invocation."""

    def __init__(self, argv: list[str], scenario_file: str | None) -> None:
        self.argv = argv
        self.folder = os.path.dirname(scenario_file) if scenario_file else None
        self.scenario: dict[str, Any] = {}
        if scenario_file is not None and os.path.exists(scenario_file):
            with open(scenario_file, encoding="utf-8") as file:
                self.scenario = json.load(file)
        self.version = tuple(int(part) for part in self.scenario.get("version", "0.18.0").split("."))
        self.command = next((word for word in argv if not word.startswith("-")), "help")
        self.json = "--json" in argv
        self.repo = os.environ.get("RESTIC_REPOSITORY", "").removeprefix("local:")
        self.lock_file: str | None = None

    # -- the world around --------------------------------------------------------------------------------------------

    def record(self, event: str, **facts: object) -> None:
        if self.folder is None:
            return
        line = {"event": event, "pid": os.getpid(), "time": time.time(), "monotonic": time.monotonic(), **facts}
        # One write to a file opened for appending: lines of processes that run at once do not mix.
        fd = os.open(os.path.join(self.folder, "invocations.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, json.dumps(line).encode() + b"\n")
        os.close(fd)

    def behaviour(self) -> dict[str, Any]:
        found = {} if self.command == "version" else self.scenario.get(self.command, {})
        if isinstance(found, list):
            turn = 0
            while True:  # the first number nobody has taken yet
                try:
                    os.close(os.open(f"{self.folder}/{self.command}.turn.{turn}", os.O_CREAT | os.O_EXCL, 0o600))
                    break
                except FileExistsError:
                    turn += 1
            found = found[min(turn, len(found) - 1)]
        return dict(found)

    def write(self, to: str, data: bytes) -> None:
        fd = 1 if to == "stdout" else 2
        while data:
            data = data[os.write(fd, data) :]

    def say(self, to: str, line: str) -> None:
        self.write(to, line.encode("utf-8", "surrogateescape") + b"\n")

    def say_json(self, to: str, value: object) -> None:
        self.say(to, json.dumps(value, separators=(",", ":")))

    def end(self, code: int) -> NoReturn:
        self.unlock_own()
        self.record("end", code=code)
        os._exit(code)

    def fatal(self, code: int, message: str) -> NoReturn:
        """End with restic's last word, as this version says it."""
        real = code if self.version >= (0, 17) else 1
        if self.version >= (0, 18) and self.json:
            self.say_json("stderr", {"message_type": "exit_error", "code": real, "message": message})
        else:
            self.say("stderr", message)
        self.end(real)

    # -- signals -----------------------------------------------------------------------------------------------------

    def arm(self, ignored: list[str]) -> None:
        """SIGINT ends every version in order; SIGTERM only from 0.17 on, before it kills and leaves the lock."""
        for name in ("SIGINT", "SIGTERM"):
            number = signal.Signals[name]
            if name in ignored:
                signal.signal(number, self.on_ignored)
            elif name == "SIGINT" or self.version >= (0, 17):
                signal.signal(number, self.on_signal)
            else:
                signal.signal(number, signal.SIG_DFL)

    def on_ignored(self, number: int, _frame: FrameType | None) -> None:
        self.record("signal", signal=signal.Signals(number).name, ignored=True)

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.record("signal", signal=signal.Signals(number).name)
        word = "interrupt" if number == signal.SIGINT else "terminated"
        self.say("stderr", f"signal {word} received, cleaning up")
        code = 1 if (0, 18) <= self.version < (0, 19) else 130
        if self.json and self.version >= (0, 18):
            self.say_json("stderr", {"message_type": "exit_error", "code": code, "message": "Fatal: context canceled"})
        self.end(code)

    # -- the repository ----------------------------------------------------------------------------------------------

    def inside(self, *parts: str) -> str:
        return os.path.join(self.repo, *parts)

    def open_repo(self) -> dict[str, Any]:
        config = self.inside("config")
        if not self.repo.startswith("/"):
            self.fatal(1, "Fatal: unable to open config file: dial tcp 127.0.0.1:1: connect: connection refused")
        try:
            with open(config, encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            text = f"unable to open config file: stat {config}: no such file or directory"
            where = f"\nIs there a repository at the following location?\n{self.repo}"
            self.fatal(10, f"Fatal: {'repository does not exist: ' if self.version >= (0, 17) else ''}{text}{where}")
        if found["password"] != os.environ.get("RESTIC_PASSWORD"):
            self.fatal(12, "Fatal: wrong password or no key found")
        return found

    def entries(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the names and contents of the locks or snapshots that there are; others may be at work meanwhile."""
        found = []
        for name in os.listdir(self.inside(kind)):
            try:
                with open(self.inside(kind, name), encoding="utf-8") as file:
                    found.append((name, json.load(file)))
            except FileNotFoundError:
                continue
        return found

    def lock(self, *, exclusive: bool = False) -> None:
        for _, other in self.entries("locks"):
            if exclusive or other["exclusive"]:
                who = f"PID {other['pid']} on {other['hostname']} by root (UID 0, GID 0)"
                exactly = "exclusively " if other["exclusive"] else ""
                self.fatal(11, f"unable to create lock in backend: repository is already locked {exactly}by {who}")
        self.lock_file = self.inside("locks", os.urandom(32).hex())
        fact = {
            "time": _now(),
            "exclusive": exclusive,
            "hostname": os.uname().nodename,
            "username": "root",
            "pid": os.getpid(),
        }
        _write_whole(self.lock_file, fact)

    def stale(self, other: dict[str, Any]) -> bool:
        """Older than 30 minutes, or of a process of this host that is gone: never another's young one."""
        if str(other["time"]) < _now(-1800):
            return True
        if other["hostname"] != os.uname().nodename:
            return False
        try:
            os.kill(other["pid"], 0)
        except ProcessLookupError:
            return True
        return False

    def unlock_own(self) -> None:
        if self.lock_file is not None:
            os.unlink(self.lock_file)
            self.lock_file = None

    def save_snapshot(self) -> str:
        snapshot_id = os.urandom(32).hex()
        words = self.argv
        fact = {
            "time": _now(),
            "paths": words[words.index("--") + 1 :] if "--" in words else [],
            "hostname": next((word[7:] for word in words if word.startswith("--host=")), os.uname().nodename),
            "username": "root",
            "tags": [word[6:] for word in words if word.startswith("--tag=")],
            "id": snapshot_id,
            "short_id": snapshot_id[:8],
        }
        _write_whole(self.inside("snapshots", snapshot_id), fact)
        return snapshot_id

    # -- the commands ------------------------------------------------------------------------------------------------

    def do_version(self) -> NoReturn:
        plain = ".".join(str(part) for part in self.version)
        self.say("stdout", self.scenario.get("version_text", f"restic {plain} compiled with go1.24.4 on linux/amd64"))
        self.end(0)

    def do_init(self) -> NoReturn:
        if not self.repo.startswith("/"):
            self.open_repo()
        os.makedirs(self.inside("snapshots"), exist_ok=True)
        os.makedirs(self.inside("locks"), exist_ok=True)
        repo_id = os.urandom(32).hex()
        fact = {"version": 2, "id": repo_id, "password": os.environ.get("RESTIC_PASSWORD")}
        try:
            os.link(_write_whole(self.inside(f".config.{os.getpid()}"), fact), self.inside("config"))
        except FileExistsError:
            self.fatal(1, f"Fatal: create repository at {self.repo} failed: config file already exists")
        finally:
            os.unlink(self.inside(f".config.{os.getpid()}"))
        if self.json and self.version >= (0, 15):
            self.say_json("stdout", {"message_type": "initialized", "id": repo_id, "repository": self.repo})
        else:
            self.say("stdout", f"created restic repository {repo_id[:10]} at {self.repo}\n")
            self.say("stdout", "Please note that knowledge of your password is required to access\nthe repository.")
        self.end(0)

    def do_backup(self) -> NoReturn:
        self.open_repo()
        paths = self.argv[self.argv.index("--") + 1 :]
        missing = [path for path in paths if not os.path.lexists(path)]
        for path in missing:
            self.say("stderr", f"{path} does not exist, skipping")
        if len(missing) == len(paths):
            whose = "source" if self.version >= (0, 18) else "target"
            self.fatal(1, f"Fatal: all {whose} directories/files do not exist")
        self.lock()
        count = len(paths) - len(missing)
        status = {"message_type": "status", "percent_done": 0.5, "total_files": count, "total_bytes": 1000 * count}
        self.say_json("stdout", status)
        started = time.monotonic()
        snapshot_id = self.save_snapshot()
        summary = {
            "message_type": "summary", "files_new": count, "files_changed": 0, "files_unmodified": 0, "dirs_new": 1,
            "dirs_changed": 0, "dirs_unmodified": 0, "data_blobs": count, "tree_blobs": 1, "data_added": 1000 * count,
            "total_files_processed": count, "total_bytes_processed": 1000 * count,
            "total_duration": time.monotonic() - started,
            "snapshot_id": snapshot_id if self.version >= (0, 15) else snapshot_id[:8],
        }  # fmt: skip
        self.say_json("stdout", summary)
        if missing and self.version >= (0, 19):
            self.fatal(3, "Warning: at least one source file could not be read")
        self.end(0)

    def do_cat(self) -> NoReturn:
        config = self.open_repo()
        if "lock" in self.argv:
            wanted = self.argv[self.argv.index("lock") + 1]
            try:
                with open(self.inside("locks", wanted), encoding="utf-8") as file:
                    self.say("stdout", file.read())
            except FileNotFoundError:
                self.fatal(1, f"Fatal: Load(<lock/{wanted[:10]}>, 0, 0) returned error: does not exist")
        else:
            self.say("stdout", json.dumps({"version": 2, "id": config["id"]}, indent=2))
        self.end(0)

    def do_snapshots(self) -> NoReturn:
        self.open_repo()
        tags = [word[6:] for word in self.argv if word.startswith("--tag=")]
        found = [
            snapshot
            for _, snapshot in self.entries("snapshots")
            if not tags or any(set(tag.split(",")) <= set(snapshot["tags"]) for tag in tags)
        ]
        self.say_json("stdout", sorted(found, key=lambda snapshot: str(snapshot["time"])))
        self.end(0)

    def do_list(self) -> NoReturn:
        self.open_repo()
        for name, _ in self.entries("locks" if "locks" in self.argv else "snapshots"):
            self.say("stdout", name)
        self.end(0)

    def do_unlock(self) -> NoReturn:
        self.open_repo()
        for name, other in self.entries("locks"):
            if "--remove-all" in self.argv or self.stale(other):
                os.unlink(self.inside("locks", name))
        self.say("stdout", "successfully removed locks")
        self.end(0)

    # -- what came with the other kinds: enough of each for those who ask it ------------------------------------------

    def flag(self, name: str) -> str | None:
        return next((word.partition("=")[2] for word in self.argv if word.startswith(f"--{name}=")), None)

    def operands(self) -> list[str]:
        return self.argv[self.argv.index("--") + 1 :] if "--" in self.argv else []

    def wanted(self) -> list[dict[str, Any]]:
        """Return the snapshots that the flags and ids choose, oldest first; say which ids are not there."""
        found = sorted((one for _, one in self.entries("snapshots")), key=lambda one: str(one["time"]))
        ids = [word for word in self.operands() if self.command not in {"ls", "diff", "restore", "find"}]
        for word in ids:
            if not any(one["id"].startswith(word) for one in found):
                self.say("stderr", f'Ignoring "{word}": no matching ID found for prefix "{word}"')
        if ids:
            return [one for one in found if any(one["id"].startswith(word) for word in ids)]
        tag, host = self.flag("tag"), self.flag("host")
        return [
            one
            for one in found
            if (tag is None or set(tag.split(",")) <= set(one["tags"])) and (host is None or host == one["hostname"])
        ]

    def named_snapshot(self) -> dict[str, Any]:
        wanted = self.operands()[0]
        for _, one in self.entries("snapshots"):
            if one["id"].startswith(wanted):
                return one
        return self.fatal(1, f'Fatal: failed to find snapshot: no matching ID found for prefix "{wanted}"')

    def do_forget(self) -> NoReturn:
        self.open_repo()
        self.lock(exclusive=True)
        found, keep = self.wanted(), int(self.flag("keep-last") or 0)
        kept = [] if self.operands() else found[-keep:] if keep else found
        gone = [one for one in found if one not in kept]
        if "--dry-run" not in self.argv:
            for one in gone:
                os.unlink(self.inside("snapshots", one["id"]))
        if not self.operands() and found:
            reasons = [{"snapshot": one, "matches": ["last snapshot"]} for one in kept]
            group = {"tags": None, "host": "", "paths": None, "keep": kept, "remove": gone, "reasons": reasons}
            self.say_json("stdout", [group])
        self.end(0)

    def do_prune(self) -> NoReturn:
        self.open_repo()
        self.lock(exclusive=True)
        for what, size in (("to repack", 0), ("total prune", 1024), ("remaining", 4096)):
            self.say("stdout", f"{what}: 1 blobs / {size} B")
        self.say("stdout", "unused size after prune: 0 B (0.00% of remaining size)")
        self.end(0)

    def do_check(self) -> NoReturn:
        self.open_repo()
        self.lock(exclusive=True)
        if self.version >= (0, 18) and self.json:
            self.say_json("stdout", {"message_type": "summary", "num_errors": 0, "broken_packs": None})
        else:
            self.say("stdout", "no errors were found")
        self.end(0)

    def do_stats(self) -> NoReturn:
        self.open_repo()
        found = self.wanted()
        self.say_json("stdout", {"total_size": 1000 * len(found), "snapshots_count": len(found)})
        self.end(0)

    def do_restore(self) -> NoReturn:
        self.open_repo()
        self.named_snapshot()
        self.lock()
        told = {"total_files": 2, "files_restored": 2, "total_bytes": 6, "bytes_restored": 6}
        if self.version >= (0, 16) and self.json:
            self.say_json("stdout", {"message_type": "status", "percent_done": 0.5, **told})
        target = self.flag("target") or ""
        if "--dry-run" not in self.argv and target != "/":
            os.makedirs(f"{target}/etc", exist_ok=True)
            for name in ("one", "two"):
                with open(f"{target}/etc/{name}", "w", encoding="utf-8") as file:
                    file.write(name)
        if self.version >= (0, 16) and self.json:
            self.say_json("stdout", {"message_type": "summary", **told})
        self.end(0)

    def do_copy(self) -> NoReturn:
        self.open_repo()
        self.lock()
        source = os.path.join(os.environ["RESTIC_FROM_REPOSITORY"].removeprefix("local:"), "snapshots")
        there = {one.get("original") for _, one in self.entries("snapshots")}
        for name in sorted(os.listdir(source)):
            if name not in there:
                with open(os.path.join(source, name), encoding="utf-8") as file:
                    told = json.load(file)
                made = os.urandom(32).hex()
                told |= {"original": name, "id": made, "short_id": made[:8]}
                _write_whole(self.inside("snapshots", made), told)
                self.say("stdout", f"snapshot {made[:8]} saved, copied from source snapshot {name[:8]}")
        self.end(0)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"name": "etc", "type": "dir", "path": "/etc", "mode": 0o755}] + [
            {"name": name, "type": "file", "path": f"/etc/{name}", "mode": 0o644, "size": 3} for name in ("one", "two")
        ]

    def do_ls(self) -> NoReturn:
        self.open_repo()
        self.say_json("stdout", {**self.named_snapshot(), "struct_type": "snapshot"})
        folder = self.operands()[1].rstrip("/")
        for node in self.nodes():
            if "--recursive" in self.argv or node["path"] == folder or os.path.dirname(node["path"]) == (folder or "/"):
                self.say_json("stdout", {**node, "struct_type": "node"})
        self.end(0)

    def do_dump(self) -> NoReturn:
        self.open_repo()
        self.named_snapshot()
        self.lock()
        wanted = self.operands()[1]
        node = next((one for one in self.nodes() if one["path"] == wanted), None)
        if node is None or node["type"] != "file":
            self.fatal(1, f'Fatal: cannot dump file: path "{wanted}" not found in snapshot')
        self.write("stdout", str(node["name"]).encode())
        self.end(0)

    def do_find(self) -> NoReturn:
        self.open_repo()
        found = [
            {"matches": hits, "hits": len(hits), "snapshot": one["id"]}
            for one in self.wanted()
            if (hits := [node for node in self.nodes() if node["name"] in self.operands()])
        ]
        self.say_json("stdout", found)
        self.end(0)

    def do_diff(self) -> NoReturn:
        self.open_repo()
        self.named_snapshot()
        self.say_json("stdout", {"message_type": "change", "path": "/etc/one", "modifier": "M"})
        self.say_json("stdout", {"message_type": "statistics", "changed_files": 1, "added": {}, "removed": {}})
        self.end(0)

    def do_tag(self) -> NoReturn:
        self.open_repo()
        self.lock(exclusive=True)
        add = {word[6:] for word in self.argv if word.startswith("--add=")}
        remove = {word[9:] for word in self.argv if word.startswith("--remove=")}
        found = self.wanted()
        for one in found:
            made = os.urandom(32).hex()
            tags = [tag for tag in one["tags"] if tag not in remove] + sorted(add - set(one["tags"]))
            told = {**one, "tags": tags, "original": one["id"], "id": made, "short_id": made[:8]}
            _write_whole(self.inside("snapshots", made), told)
            os.unlink(self.inside("snapshots", one["id"]))
        if self.version >= (0, 18) and self.json:
            self.say_json("stdout", {"message_type": "summary", "changed_snapshots": len(found)})
        else:
            self.say("stdout", f"modified tags on {len(found)} snapshots")
        self.end(0)

    # -- scenarios ---------------------------------------------------------------------------------------------------

    def steps(self) -> dict[str, Callable[[Any, dict[str, Any]], object]]:
        return {
            "stdout": lambda value, _: self.say("stdout", value),
            "stderr": lambda value, _: self.say("stderr", value),
            "stdout_json": lambda value, _: self.say_json("stdout", value),
            "stderr_json": lambda value, _: self.say_json("stderr", value),
            "hex": lambda value, step: self.write(step.get("to", "stdout"), bytes.fromhex(value)),
            "long_line": lambda value, step: self.write(step.get("to", "stdout"), b"x" * value + b"\n"),
            "flood": lambda value, _: self.flood(value),
            "bytes": lambda value, _: self.write("stdout", (bytes(range(256)) * (value // 256 + 1))[:value]),
            "nodes": lambda value, _: self.many_nodes(value),
            "listed": lambda value, _: self.many_snapshots(value),
            "sleep": lambda value, _: _sleep(value),
            "wait_for": lambda value, _: _wait_for(value),
            "touch": lambda value, _: open(value, "wb").close(),
            "grandchild": lambda value, step: self.grandchild(value, session=bool(step.get("session"))),
            "stdin_end": lambda _value, _: sys.stdin.read(),
            "lock": lambda _value, _: self.lock(),
            "snapshot": lambda _value, _: self.save_snapshot(),
            "run": lambda _value, _: self.work(),
            "kill": lambda value, _: os.kill(os.getpid(), signal.Signals[value]),
            "exit": lambda value, _: self.end(value),
        }

    def flood(self, lines: int) -> None:
        block = b"".join(b"flood line %06d\n" % number for number in range(1000))
        for _ in range(lines // 1000):
            self.write("stdout", block)
            self.write("stderr", block)

    def many_nodes(self, count: int) -> None:
        self.say_json("stdout", {"struct_type": "snapshot", "id": "ab" * 32, "paths": ["/srv"]})
        told = {"type": "file", "mode": 0o644, "size": 1, "mtime": "2026-03-01T12:00:00.123456789Z", "uid": 0, "gid": 0}
        rest = json.dumps({**told, "struct_type": "node"}, separators=(",", ":"))[1:].encode()
        for start in range(0, count, 1000):
            names = ((start + number) for number in range(min(1000, count - start)))
            paths = (f'{{"name":"f{name:07d}","path":"/srv/d{name // 1000:04d}/f{name:07d}",' for name in names)
            self.write("stdout", b"".join(path.encode() + rest + b"\n" for path in paths))

    def many_snapshots(self, count: int) -> None:
        found = [
            {
                "time": f"2026-{1 + number % 12:02d}-01T12:00:00.123456789Z",
                "tree": f"{number:064x}",
                "paths": ["/etc", "/home"],
                "hostname": f"web{number % 100}",
                "username": "root",
                "tags": [f"rm:sch-{number % 100}", f"rmj:job-{number}"],
                "program_version": "restic 0.18.0",
                "summary": {"total_files_processed": 1_000, "total_bytes_processed": 5_000_000, "data_added": 1_000},
                "id": f"{number:064x}",
                "short_id": f"{number:064x}"[:8],
            }
            for number in range(count)
        ]
        self.say_json("stdout", found)

    def grandchild(self, seconds: float, *, session: bool) -> None:
        pid = os.fork()
        if pid:
            self.say("stdout", f"grandchild {pid}")
            return
        if session:
            os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(seconds)
        os._exit(0)

    def work(self) -> NoReturn:
        does: dict[str, Callable[[], NoReturn]] = {
            "version": self.do_version,
            "init": self.do_init,
            "backup": self.do_backup,
            "cat": self.do_cat,
            "snapshots": self.do_snapshots,
            "list": self.do_list,
            "unlock": self.do_unlock,
            "forget": self.do_forget,
            "prune": self.do_prune,
            "check": self.do_check,
            "stats": self.do_stats,
            "restore": self.do_restore,
            "copy": self.do_copy,
            "ls": self.do_ls,
            "dump": self.do_dump,
            "find": self.do_find,
            "diff": self.do_diff,
            "tag": self.do_tag,
        }
        if self.command not in does:
            self.fatal(1, f'unknown command "{self.command}" for "restic"')
        does[self.command]()

    def main(self) -> NoReturn:
        behaviour = self.behaviour()
        self.arm(behaviour.get("ignore", []))
        names = {"RESTIC_REPOSITORY", "RESTIC_MANAGER_JOB_ID", *self.scenario.get("env", [])}
        env = {name: os.environ[name] for name in sorted(names) if name in os.environ}
        self.record("start", argv=self.argv, env=env, ppid=os.getppid())
        if "steps" not in behaviour:
            self.work()
        does = self.steps()
        for step in behaviour["steps"]:
            name = next(key for key in step if key in does)
            does[name](step[name], step)
        self.end(0)


def _now(later: float = 0) -> str:
    seconds, parts = divmod(time.time_ns() + int(later * 10**9), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{parts:09d}Z"


def _write_whole(path: str, value: object) -> str:
    """Write a file that a process killed half way, or one reading meanwhile, never shows half."""
    folder, name = os.path.split(path)
    part = os.path.join(os.path.dirname(folder), f".{name}.{os.getpid()}")
    with open(part, "w", encoding="utf-8") as file:
        file.write(json.dumps(value))
    os.rename(part, path)
    return path


def _sleep(seconds: float) -> None:
    # Not time.sleep alone: a signal that is recorded and ignored must not shorten it.
    end = time.monotonic() + seconds
    while (rest := end - time.monotonic()) > 0:
        time.sleep(rest)


def _wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.005)


# -- for the tests that import this ----------------------------------------------------------------------------------


class FakeRestic:
    """One installed fake: where it is, how to steer it, and what it was asked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._folder = os.path.dirname(path)

    def __repr__(self) -> str:
        """Return where it is."""
        return f"FakeRestic({self.path!r})"

    def steer(self, **scenario: object) -> None:
        """Given a scenario, use it from the next invocation on (turns of lists begin anew)."""
        for name in os.listdir(self._folder):
            if ".turn." in name:
                os.unlink(os.path.join(self._folder, name))
        part = os.path.join(self._folder, "scenario.json.part")
        with open(part, "w", encoding="utf-8") as file:
            json.dump(scenario, file)
        os.replace(part, os.path.join(self._folder, "scenario.json"))

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return what was recorded, oldest first; with an event (start, signal, end) only those."""
        try:
            with open(os.path.join(self._folder, "invocations.jsonl"), encoding="utf-8") as file:
                found = [json.loads(line) for line in file]
        except FileNotFoundError:
            return []
        return [record for record in found if event in (None, record["event"])]

    def invocations(self, command: str | None = None) -> list[dict[str, Any]]:
        """Return the `start` records, oldest first; with a command (backup, init, …) only those."""
        return [record for record in self.records("start") if command in (None, record["argv"][0])]


def install(folder: str | os.PathLike[str], **scenario: object) -> FakeRestic:
    """Given a folder (made when absent) and a scenario, put an executable `restic` there and return its handle."""
    folder = os.path.abspath(folder)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "restic")
    here = os.path.dirname(os.path.abspath(__file__))
    with open(path, "w", encoding="utf-8") as file:
        # -I and -S: no site-packages, nothing from the environment; they halve the start.
        file.write(f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {here!r})\n")
        file.write(f"import fake_restic\nfake_restic.run({os.path.join(folder, 'scenario.json')!r})\n")
    os.chmod(path, 0o700)
    fake = FakeRestic(path)
    fake.steer(**scenario)
    return fake


def saved_snapshots(repo: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Given a fake repository's folder, return its snapshots, oldest first."""
    folder = os.path.join(repo, "snapshots")
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found.append(json.load(file))
    return sorted(found, key=lambda snapshot: str(snapshot["time"]))


def make_repo(repo: str | os.PathLike[str], password: str) -> None:
    """Given a folder and a password, make a fake repository there without starting a process."""
    for name in ("snapshots", "locks"):
        os.makedirs(os.path.join(repo, name), exist_ok=True)
    _write_whole(os.path.join(repo, "config"), {"version": 2, "id": os.urandom(32).hex(), "password": password})


def leave_lock(
    repo: str | os.PathLike[str],
    *,
    hostname: str = "elsewhere",
    pid: int = 4711,
    age: float = 0,
    exclusive: bool = True,
) -> str:
    """Given a fake repository's folder and whose it is (age in seconds), leave a lock there and return its id."""
    lock_id = os.urandom(32).hex()
    fact = {"time": _now(-age), "exclusive": exclusive, "hostname": hostname, "username": "root", "pid": pid}
    _write_whole(os.path.join(repo, "locks", lock_id), fact)
    return lock_id


def run(scenario_file: str | None) -> NoReturn:
    """Be restic."""
    _Fake(sys.argv[1:], scenario_file).main()


if __name__ == "__main__":
    run(os.environ.get("FAKE_RESTIC_SCENARIO"))
