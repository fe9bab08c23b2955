"""What an idle agent takes: resident memory, and CPU with heartbeats, measured on a real server and a real agent.

    python benchmarks/agent_memory.py [SECONDS]

Budget: 45 MB resident, 0.05 % of one CPU. The agent has one schedule that is not due. RSS is what the kernel counts for
the process, pages of the interpreter shared with others included; PSS divides those among who shares them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = [sys.executable, "-m", "restic_manager"]


def wait_for(log: Path, pattern: str) -> re.Match[str]:
    """Wait until the log holds the pattern, and return what matched."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text(encoding="utf-8"))
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"waited in vain for {pattern!r}:\n{log.read_text(encoding='utf-8')}")


def start(log: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start the program with its output in a file."""
    with log.open("wb") as out:
        return subprocess.Popen([*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def memory(pid: int) -> tuple[float, float]:
    """Given a process, return its RSS and PSS in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    values = {name: int(size) * 1024 / 1e6 for name, size in re.findall(r"^(Rss|Pss): +(\d+) kB$", text, re.MULTILINE)}
    return values["Rss"], values["Pss"]


def cpu_seconds(pid: int) -> float:
    """Given a process, return the CPU time it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(seconds: float) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["RESTIC_MANAGER_DATA_DIR"] = str(place / "data")
        server = start(place / "server.log", "server", "--listen", "127.0.0.1:0")
        port = wait_for(place / "server.log", r"agents dial ws://127\.0\.0\.1:(\d+)")[1]
        operator = [*PROGRAM]
        invite = subprocess.run([*operator, "host", "invite", "bench", "--json"], check=True, stdout=subprocess.PIPE)
        token = re.search(r'"token": ?"([^"]+)"', invite.stdout.decode())
        assert token is not None
        for words in (
            ["repo", "add", "main", str(place / "repo"), "--generate-password"],
            ["schedule", "add", "yearly", "--all", "--cron", "0 0 1 1 *", "--repo", "main", "/etc"],
        ):
            subprocess.run([*operator, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        agent = start(place / "agent.log", "agent", "--server", f"ws://127.0.0.1:{port}", "--token", token[1])
        wait_for(place / "server.log", r"bench .*is online")
        time.sleep(5)
        used, began = cpu_seconds(agent.pid), time.monotonic()
        time.sleep(seconds)
        share = (cpu_seconds(agent.pid) - used) / (time.monotonic() - began) * 100
        for name, process in (("agent", agent), ("server", server)):
            rss, pss = memory(process.pid)
            print(f"{name}: {rss:.1f} MB resident (PSS {pss:.1f} MB)")
        print(f"agent: {share:.3f} % of one CPU over {seconds:g} s, idle with heartbeats")
        for process in (agent, server):
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
