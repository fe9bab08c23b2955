"""A pack goes bad on the disk: the rolling check says which snapshots and files need it, and so does a verify."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.stage import Stage, stage
from tests.support.quick_key import make_quick
from tests.support.restic_binaries import REAL_RESTICS, RealRestic

pytestmark = pytest.mark.timeout(120)


def damage_biggest_pack(repo: Path) -> None:
    pack = max((path for path in (repo / "data").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    whole = bytearray(pack.read_bytes())
    whole[1000:1008] = bytes(byte ^ 0xFF for byte in whole[1000:1008])
    pack.write_bytes(whole)


def saved(here: Stage, real: RealRestic, source: Path) -> str:
    """Back a file up, damage it in the repository, and return the snapshot."""
    here.start_server()
    here.start_agent("web1", restic=real.path)
    repo = here.add_repo()
    here.ok("repo", "init", "main", "--host", "web1", "--wait")
    make_quick(repo, "pw")
    source.mkdir()
    (source / "precious.bin").write_bytes(random.Random(1).randbytes(1 << 20))  # noqa: S311 - to be repeated
    here.ok("schedule", "add", "nightly", "--cron", "0 3 1 1 *", "--host", "web1", "--repo", "main", str(source))
    (job,) = here.json("schedule", "run", "nightly", "--wait")
    damage_biggest_pack(repo)
    return str(job["snapshot_id"])


@pytest.mark.parametrize("real", REAL_RESTICS)
def test_the_rolling_check_names_what_is_damaged(tmp_path: Path, real: RealRestic) -> None:
    with stage(tmp_path) as here:
        snapshot = saved(here, real, tmp_path / "source")
        words = ("schedule", "add", "rolling", "--kind", "check", "--read-data-subset", "1/2")
        here.ok(*words, "--cron", "0 4 1 1 *", "--host", "web1", "--repo", "main")
        # The pack is in one of the two parts.
        codes = [here.run("schedule", "run", "rolling", "--wait").returncode]
        if codes == [0]:
            codes.append(here.run("schedule", "run", "rolling", "--wait").returncode)
        assert codes[-1] == 1
        (job,) = here.client.jobs(schedule="rolling", limit=1)
        assert job.error is not None
        assert job.error.code == "repo_damaged"
        assert "precious.bin" in job.error.message
        shown = here.ok("job", "show", job.id)
        assert f"{tmp_path}/source/precious.bin" in "".join(shown.split()), shown
        assert snapshot[:8] in shown
        assert "damaged" in here.ok("status")


@pytest.mark.parametrize("real", REAL_RESTICS[-1:])
def test_a_proof_of_restore_names_what_cannot_be_restored(tmp_path: Path, real: RealRestic) -> None:
    with stage(tmp_path) as here:
        saved(here, real, tmp_path / "source")
        done = here.run("job", "run", "verify", "--host", "web1", "--repo", "main", "--wait")
        assert done.returncode == 1
        (job,) = (job for job in here.jobs() if job.kind == "verify")
        assert "precious.bin" in here.ok("job", "show", job.id)
        assert here.json("host", "show", "web1")["proven_at"] is None
