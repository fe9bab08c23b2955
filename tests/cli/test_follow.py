"""Staying with jobs: attempts, a server that comes back, several at once, and what that makes of the exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from restic_manager.cli.follow import STREAMS, stay
from restic_manager.client import Client, ServerAddress
from restic_manager.domain.errors import UnreachableError
from restic_manager.domain.model import Failure, Status
from restic_manager.protocol import api
from tests.cli import samples
from tests.cli.conftest import Command
from tests.cli.stub_server import Stream, StubServer

JOB, NEXT = samples.JOB_ID, samples.NEXT_JOB_ID
LOGS = f"/v1/jobs/{JOB}/events?follow=1&logs=1&attempts=0"
WAIT = f"/v1/jobs/{JOB}/events?follow=1&logs=0&attempts=1"


def told(job: api.JobView) -> api.JobEvent:
    return api.JobEvent(job=job)


def gap(lines: int) -> api.GapEvent:
    return api.GapEvent(job_id=JOB, lines=lines)


@pytest.fixture
def client(server: StubServer, tmp_path: Path) -> Client:
    return Client(ServerAddress(path=tmp_path / "server.sock"), timeout=5)


def test_a_stream_read_again_repeats_no_line_and_no_gap(client: Client, server: StubServer) -> None:
    running, done = told(samples.job(Status.RUNNING)), told(samples.job())
    server.on(
        "GET",
        LOGS,
        Stream().put(running, samples.line(1), gap(3), samples.line(5)).cut(),
        Stream().put(running, samples.line(1), gap(3), samples.line(5), gap(2), samples.line(8)).end(),
        Stream().put(running, samples.line(1), gap(3), samples.line(5), gap(2), samples.line(8), gap(1), done).end(),
    )
    said: list[str] = []
    events = list(stay(client, JOB, logs=True, attempts=False, note=said.append))
    kept = [
        event.line if isinstance(event, api.LogEvent) else -event.lines
        for event in events
        if isinstance(event, api.LogEvent | api.GapEvent)
    ]
    assert kept == [1, -3, 5, -2, 8, -1]
    assert (
        said
        == ["the server went away; the job goes on without it; waiting for it to come back", "the server is back"] * 2
    )


def test_a_server_that_stays_away_is_given_up(client: Client, server: StubServer) -> None:
    gone = (503, {"error": {"code": "server_unreachable", "message": "gone"}})
    server.on("GET", LOGS, Stream().put(told(samples.job(Status.RUNNING))).cut(), gone)
    with pytest.raises(UnreachableError, match="gone"):
        list(stay(client, JOB, logs=True, attempts=False, note=lambda _: None, patience=0.3))


def test_a_server_that_was_never_there_is_not_waited_for(client: Client, server: StubServer) -> None:
    server.on("GET", LOGS, (503, {"error": {"code": "server_unreachable", "message": "no"}}))
    with pytest.raises(UnreachableError):
        list(stay(client, JOB, logs=True, attempts=False, note=lambda _: None))
    assert len(server.asked) == 1


def test_the_next_attempt_is_followed_when_the_stream_ended_with_the_first(client: Client, server: StubServer) -> None:
    first = samples.job(Status.FAILED, next_attempt=NEXT)
    server.on("GET", WAIT, Stream().put(told(first)).end())
    server.on("GET", WAIT.replace(JOB, NEXT), Stream().put(told(samples.job(id=NEXT))).end())
    events = list(stay(client, JOB, logs=False, attempts=True, note=lambda _: None))
    assert [event.job.id for event in events if isinstance(event, api.JobEvent)] == [JOB, NEXT]


# -- schedule run --wait ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [(Status.SUCCEEDED, 0), (Status.WARNING, 3), (Status.FAILED, 1), (Status.CANCELLED, 1), (Status.INTERRUPTED, 1)],
)
def test_run_wait_ends_as_the_job_ended(command: Command, server: StubServer, status: Status, code: int) -> None:
    error = None if status is Status.SUCCEEDED else Failure(code="x", message="because", lines=("Fatal: x",))
    server.on("POST", "/v1/schedules/nightly/run", (201, [samples.job(Status.QUEUED)]))
    ended_job = samples.job(status, error=error)
    server.on("GET", WAIT, Stream().put(told(samples.job(Status.RUNNING)), told(ended_job)).end())
    ended = command("schedule", "run", "nightly", "--wait")
    assert ended.code == code
    assert f"web1: backup {status} in 1 min" in ended.out
    assert ("because" in ended.out) is (error is not None)
    assert "web1: job 3f2a91c0 running" in ended.err
    assert "\x1b" not in ended.out + ended.err


def test_run_wait_with_json_prints_the_last_attempts_alone(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/schedules/nightly/run", (201, [samples.job(Status.QUEUED)]))
    again = samples.job(id=NEXT, attempt=2, attempt_of=JOB)
    server.on("GET", WAIT, Stream().put(told(samples.job(Status.FAILED, next_attempt=NEXT)), told(again)).end())
    ended = command("schedule", "run", "nightly", "--wait", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json == msgspec.json.decode(msgspec.json.encode([again]))


def test_several_hosts_are_all_followed_and_the_worst_is_reported(command: Command, server: StubServer) -> None:
    many = STREAMS * 2 + 3
    jobs = [samples.job(Status.QUEUED, id=f"job-{number}", host=f"host{number}") for number in range(many)]
    server.on("POST", "/v1/schedules/nightly/run", (201, jobs))
    for number, job in enumerate(jobs):
        status = Status.WARNING if number == many - 1 else Status.SUCCEEDED
        ended_job = samples.job(status, id=job.id, host=job.host)
        server.on("GET", WAIT.replace(JOB, job.id), Stream().put(told(ended_job)).end())
    ended = command("schedule", "run", "nightly", "--wait")
    assert ended.code == 3
    lines = [line for line in ended.out.splitlines() if line.startswith("host")]
    assert [line.split(":")[0] for line in lines] == [job.host for job in jobs]


def test_a_lost_server_while_waiting_is_exit_5(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/schedules/nightly/run", (201, [samples.job(Status.QUEUED)]))
    ended = command("schedule", "run", "nightly", "--wait")
    assert ended.code == 4
    assert "nothing scripted" in ended.err


def test_repo_init_wait(command: Command, server: StubServer) -> None:
    server.on("POST", "/v1/repos/main/init", (201, samples.job(Status.QUEUED)))
    server.on("GET", WAIT, Stream().put(told(samples.job(Status.FAILED))).end())
    assert command("repo", "init", "main", "--host", "web1", "--wait").code == 1


def test_cancel_wait_is_done_when_the_job_was_cancelled(command: Command, server: StubServer) -> None:
    server.on("POST", f"/v1/jobs/{JOB}/cancel", samples.job(Status.RUNNING))
    server.on("GET", WAIT, Stream().put(told(samples.job(Status.CANCELLED))).end())
    assert command("job", "cancel", JOB, "--wait").code == 0
    server.on("GET", WAIT, Stream().put(told(samples.job(Status.SUCCEEDED))).end())
    assert command("job", "cancel", JOB, "--wait").code == 1
    server.on("POST", f"/v1/jobs/{JOB}/cancel", samples.job(Status.CANCELLED))
    assert command("job", "cancel", JOB, "--wait").code == 0


# -- job logs ---------------------------------------------------------------------------------------------------------

PLAIN = f"/v1/jobs/{JOB}/events?follow=0&logs=1&attempts=0"


def test_logs_prints_lines_on_standard_output_and_the_rest_beside(command: Command, server: StubServer) -> None:
    events = [told(samples.job()), samples.line(1, "scan\x1b[0m"), gap(7), samples.line(9, "done")]
    server.on("GET", PLAIN, Stream().put(*events).end())
    ended = command("job", "logs", JOB)
    # Not a terminal: to the byte.
    assert ended.out == "scan\x1b[0m\ndone\n"
    assert "7 lines not kept" in ended.err


def test_logs_json_is_one_event_a_line(command: Command, server: StubServer) -> None:
    events = [told(samples.job()), samples.line(1), gap(7)]
    server.on("GET", PLAIN, Stream().put(*events).end())
    ended = command("job", "logs", JOB, "--json")
    assert [msgspec.json.decode(line, type=api.Event) for line in ended.out.splitlines()] == events
    assert ended.err == ""


def test_no_log_says_why(command: Command, server: StubServer) -> None:
    server.on("GET", PLAIN, Stream().put(told(samples.job(Status.QUEUED))).end())
    ended = command("job", "logs", JOB)
    assert (ended.code, ended.out) == (0, "")
    assert "queued, waits for host web1, which is offline" in ended.err


def test_following_shows_each_line_at_once_and_ctrl_c_leaves_the_job_alone(server: StubServer, tmp_path: Path) -> None:
    stream = Stream().put(told(samples.job(Status.RUNNING)), samples.line(1, "first"))
    server.on("GET", LOGS, stream)
    arguments = [
        sys.executable,
        "-m",
        "restic_manager",
        "job",
        "logs",
        "-f",
        JOB,
        "--server",
        str(tmp_path / "server.sock"),
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # The stream is still open: a line that was buffered would never come.
        assert process.stdout.readline() == "first\n"
        stream.put(samples.line(2, "second"))
        assert process.stdout.readline() == "second\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == "no longer following; the job goes on\n"
    stream.end()
    assert [asked.method for asked in server.asked] == ["GET"]


def test_ctrl_c_while_waiting_leaves_the_job_alone(server: StubServer, tmp_path: Path) -> None:
    stream = Stream().put(told(samples.job(Status.RUNNING)))
    server.on("POST", "/v1/schedules/nightly/run", (201, [samples.job(Status.QUEUED)]))
    server.on("GET", WAIT, stream)
    arguments = [sys.executable, "-m", "restic_manager", "schedule", "run", "nightly", "--wait"]
    with subprocess.Popen(
        [*arguments, "--server", str(tmp_path / "server.sock")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "running" in process.stderr.readline()
        started = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - started < 5
        assert "the job goes on" in process.stderr.read()
    stream.end()
