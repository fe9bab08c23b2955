"""Writes tests/restic/data/captured_kinds.json: what the real binaries answer to each kind, byte for byte.

    python -m tests.tools.capture_kinds

Temporary paths are written as /srv. The files saved are always the same, so that tests know the numbers.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.restic_binaries import _BINARIES, RealRestic
from tests.tools.capture_restic import run

OUT = Path(__file__).parents[1] / "restic" / "data" / "captured_kinds.json"


def capture(real: RealRestic, base: Path) -> dict[str, dict[str, Any]]:
    """Return every situation of one version."""
    data, repo, second = base / "data", str(base / "repo"), str(base / "second")
    (data / "sub").mkdir(parents=True)
    for name, content in (("one", b"one\n"), (os.fsdecode(b"caf\xe9"), b"x"), ("two\nlines", b"yy")):
        (data / name).write_bytes(content)
    (data / "sub" / "two").write_bytes(random.Random(1).randbytes(256_000))  # noqa: S311 - always the same
    here, backup = str(data), ("backup", "--json", "--host=web1", "--tag=rm:s1", "--", str(data))
    run(real, repo, "init")
    run(real, repo, *backup)
    (data / "one").write_bytes(b"changed\n")
    (data / os.fsdecode(b"caf\xe9")).unlink()
    run(real, repo, *backup)
    listed = run(real, repo, "snapshots", "--json")
    first, last = (snapshot["id"] for snapshot in json.loads(listed["stdout"]))
    policy = ("forget", "--json", "--tag=rm:s1", "--host=web1", "--group-by=", "--keep-last=1", "--keep-daily=1")
    gone = "ffffffff"
    found = {
        "snapshots": listed,
        "ls": run(real, repo, "ls", "--json", "--", first, here),
        "ls_text": run(real, repo, "ls", "--", first, here),
        "find": run(real, repo, "find", "--json", "--", "caf*", "two*"),
        "find_text": run(real, repo, "find", "--", "caf*", "two*"),
        "find_missing": run(real, repo, "find", "--json", f"--snapshot={gone}", "--", "x"),
        "diff": run(real, repo, "diff", "--json", "--", first, last),
        "diff_text": run(real, repo, "diff", "--", first, last),
        "stats_raw": run(real, repo, "stats", "--json", "--mode=raw-data"),
        "stats_size": run(real, repo, "stats", "--json", "--mode=restore-size", "--", first),
        "stats_missing": run(real, repo, "stats", "--json", "--mode=raw-data", "--", gone),
        "restore": run(real, repo, "restore", "--json", f"--target={base}/t", "--verify", "--", first),
        "restore_nothing": run(real, repo, "restore", "--json", f"--target={base}/n", "--include=/x", "--", first),
        "restore_missing": run(real, repo, "restore", "--json", f"--target={base}/m", "--", gone),
        "forget_dry": run(real, repo, *policy, "--dry-run"),
        "forget_none": run(real, repo, "forget", "--json", "--tag=rm:none", "--group-by=", "--keep-last=1"),
        "tag": run(real, repo, "tag", "--json", "--add=a", "--", last),
        "tag_missing": run(real, repo, "tag", "--json", "--add=a", "--", gone),
        "check": run(real, repo, "check", "--json", "--read-data-subset=1/1"),
    }

    def copying(*words: str) -> dict[str, Any]:
        return run(real, second, *words, RESTIC_FROM_REPOSITORY=repo, RESTIC_FROM_PASSWORD="right")

    copying("init", "--copy-chunker-params")
    found["copy"] = copying("copy")
    found["copy_again"] = copying("copy")
    found["forget"] = run(real, repo, *policy)
    found["prune_dry"] = run(real, repo, "prune", "--dry-run", "--max-unused=0")
    found["prune"] = run(real, repo, "prune", "--max-unused=0")
    pack = max((path for path in (base / "repo" / "data").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    pack.chmod(0o600)
    whole = bytearray(pack.read_bytes())
    whole[20:28] = bytes(byte ^ 0xFF for byte in whole[20:28])
    pack.write_bytes(whole)
    shutil.rmtree(f"{tempfile.gettempdir()}/capture-cache", ignore_errors=True)
    found["check_damaged"] = run(real, repo, "check", "--json", "--read-data-subset=1/1")
    found["find_pack"] = run(real, repo, "find", "--json", "--no-lock", "--pack", "--", pack.name)
    pack.unlink()
    found["check_gone"] = run(real, repo, "check", "--json")
    found["prune_gone"] = run(real, repo, "prune")
    return found


def main() -> None:
    """Write the file."""
    everything: dict[str, dict[str, Any]] = {}
    for real in _BINARIES:
        with tempfile.TemporaryDirectory() as name:
            situations = capture(real, Path(name))
            for told in situations.values():
                for stream in ("stdout", "stderr"):
                    raw = told[stream].replace(name.encode(), b"/srv")
                    try:
                        told[stream] = raw.decode()
                    except UnicodeDecodeError:
                        told[stream] = {"base64": base64.b64encode(raw).decode()}
            everything[real.version] = situations
    OUT.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"wrote {OUT}\n")


if __name__ == "__main__":
    main()
