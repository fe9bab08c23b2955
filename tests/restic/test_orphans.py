"""restic processes whose agent is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from restic_manager.restic.orphans import end_orphans, find_orphans
from tests.support import fake_restic

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="found through /proc")


@contextmanager
def left_behind(tmp_path: Path, job_id: str, *, ignore: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A fake restic with a grandchild, as an agent that was killed would leave it."""
    steps = [{"grandchild": 60}, {"stdout": "ready"}, {"sleep": 60}]
    fake = fake_restic.install(tmp_path / job_id, backup={"ignore": ignore, "steps": steps})
    env = {**os.environ, "RESTIC_MANAGER_JOB_ID": job_id}
    with subprocess.Popen([fake.path, "backup"], env=env, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            while process.stdout.readline() != b"ready\n":
                pass
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("ignore", [(), ("SIGINT", "SIGTERM")])
async def test_what_carries_the_jobs_id_is_ended(tmp_path: Path, ignore: tuple[str, ...]) -> None:
    job, other = str(uuid.uuid4()), str(uuid.uuid4())
    with left_behind(tmp_path, job, ignore=ignore) as process, left_behind(tmp_path, other) as bystander:
        found = find_orphans({job})
        assert [orphan.leader for orphan in found] == [True, False]
        assert found[0].pid == process.pid
        with trio.fail_after(20):
            assert await end_orphans({job}, kill_after=0.5) == found
        # Not ours to wait for in real life; here we are the parent.
        assert process.wait(5) == (1 if not ignore else -9)
        assert find_orphans({job}) == []
        assert bystander.poll() is None
        assert len(find_orphans({other})) == 2
        await end_orphans({other}, kill_after=0.5)


async def test_nothing_to_look_for_looks_for_nothing() -> None:
    assert await end_orphans(set()) == []
    assert await end_orphans({str(uuid.uuid4())}) == []
