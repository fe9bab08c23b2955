"""Writes tests/restic/data/captured.json: what the real binaries say in each situation, byte for byte.

    python -m tests.tools.capture_restic

Run as root (an unreadable file is made of /proc, a full disk of a small tmpfs). Temporary paths are written as /srv.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from tests.support.holding_proxy import holding_proxy
from tests.support.restic_binaries import _BINARIES, RealRestic, rest_server

OUT = Path(__file__).parents[1] / "restic" / "data" / "captured.json"


def run(real: RealRestic, repo: str, *words: str, stop: tuple[float, int] | None = None, **env: str) -> dict[str, Any]:
    """Run one command; with `stop`, send that signal after so many seconds."""
    full = {
        "PATH": os.environ["PATH"],
        "RESTIC_PASSWORD": "right",
        "RESTIC_PROGRESS_FPS": "1",
        "RESTIC_REPOSITORY": repo,
    }
    full |= {"RESTIC_CACHE_DIR": f"{tempfile.gettempdir()}/capture-cache"} | env
    with subprocess.Popen([real.path, *words], env=full, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if stop is not None:
            try:
                process.wait(stop[0])
            except subprocess.TimeoutExpired:
                process.send_signal(stop[1])
        out, err = process.communicate(timeout=60)
    return {"code": process.returncode, "stdout": out, "stderr": err}


async def held(real: RealRestic, folder: Path) -> dict[str, dict[str, Any]]:
    """What is said while another holds an exclusive lock, and when stopped in the middle of a backup."""
    found: dict[str, dict[str, Any]] = {}
    in_thread: Callable[..., Any] = trio.to_thread.run_sync
    with rest_server(folder) as url:
        await in_thread(run, real, f"rest:{url}repo", "init")
        async with holding_proxy(url, "GET", "/index/") as proxy, trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, lambda: run(real, f"rest:{proxy.url}repo", "check"))
            await proxy.held.wait()
            found["locked"] = await in_thread(run, real, f"rest:{url}repo", "backup", "--json", "--", str(folder))
            proxy.release()
        number = 15 if real.version >= "0.17" else 2
        async with holding_proxy(url, "POST", "/data/") as proxy:
            found["stopped"] = await in_thread(
                lambda: run(real, f"rest:{proxy.url}repo", "backup", "--json", "--", "/etc", stop=(3, number))
            )
    return found


def capture(real: RealRestic, base: Path) -> dict[str, dict[str, Any]]:
    """Return every situation of one version."""
    data, repo = base / "data", str(base / "repo")
    (data / "sub").mkdir(parents=True)
    (data / "one").write_text("one")
    (data / "sub" / "two").write_bytes(os.urandom(2_000_000))
    there, gone = str(data), str(base / "gone")
    backup = ("backup", "--json", "--host=web1", "--")
    found = {
        "version": run(real, repo, "version"),
        "repo_missing": run(real, repo, *backup, there),
        "init": run(real, repo, "init", "--json"),
        "repo_exists": run(real, repo, "init", "--json"),
        "backup": run(real, repo, *backup, there),
        "one_missing": run(real, repo, *backup, there, gone),
        "all_missing": run(real, repo, *backup, gone),
        "unreadable": run(real, repo, *backup, there, "/proc/self/clear_refs"),
        "wrong_password": run(real, repo, *backup, there, RESTIC_PASSWORD="wrong"),
        "exclude_file_missing": run(real, repo, "backup", "--json", f"--exclude-file={gone}", "--", there),
        "refused": run(real, "rest:http://127.0.0.1:1/repo", *backup, there, stop=(4, 15)),
        "not_utf8": run(real, repo, *backup, there, f"{base}/gone-caf\udce9\x1b[31m"),
    }
    with rest_server(base / "rest") as url:
        found["rest_repo_missing"] = run(real, f"rest:{url}repo", *backup, there)
    (base / "locked").mkdir()
    (base / "locked" / ".htpasswd").write_text("user:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    with rest_server(base / "locked", login=True) as url:
        found["unauthorized"] = run(real, f"rest:{url}repo", *backup, there)
    full = base / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(full)], check=True)
    try:
        run(real, str(full / "repo"), "init")
        found["no_space"] = run(real, str(full / "repo"), *backup, there, stop=(6, 15))
    finally:
        subprocess.run(["umount", str(full)], check=True)
    shutil.rmtree(base / "repo" / "keys")
    found["keys_gone"] = run(real, repo, *backup, there)
    return found | trio.run(held, real, base / "held")


def main() -> None:
    """Write the file."""
    everything: dict[str, dict[str, Any]] = {}
    for real in _BINARIES:
        with tempfile.TemporaryDirectory() as name:
            situations = capture(real, Path(name))
            for told in situations.values():
                for stream in ("stdout", "stderr"):
                    raw = told[stream].replace(name.encode(), b"/srv")
                    raw = raw.replace(f" on {os.uname().nodename} by".encode(), b" on web1 by")
                    try:
                        told[stream] = raw.decode()
                    except UnicodeDecodeError:
                        told[stream] = {"base64": base64.b64encode(raw).decode()}
            everything[real.version] = situations
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"wrote {OUT}\n")


if __name__ == "__main__":
    main()
