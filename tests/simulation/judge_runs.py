"""Judges the runs: what restic really did, against the server's jobs, verdicts, logs and acks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from restic_manager.domain.model import Kind
from tests.simulation.pretend import Run
from tests.simulation.record import Record, read_acked
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.play import Result


def judge(world: World, result: Result, record: Record) -> None:
    """Add to the result what is wrong with jobs and runs.

    No run twice, none without a slot or a request (or set aside, and shown); every job has ended. Where a host's memory
    was lost, the only witness of what it had not told yet is gone: that is all it may cost. Where it was put back to an
    old copy, what it did since may be done once more, and by two machines of one identity too.
    """
    result.runs = len(world.book.runs)
    for job_id, runs in world.book.by_job.items():
        if len({run.host for run in runs}) > 1 and world.restores:
            continue  # an init that the server, put back to an old copy, gave to another host than before
        _judge_repeats(world, result, job_id, runs)
        _judge_known(world, result, record, job_id, runs[0])
    for job_id, row in record.jobs.items():
        if row["status"] in {"queued", "running"}:
            result.violations.append(f"job {job_id} never ended: {row['status']}")
        if row["status"] in {"succeeded", "warning"} and job_id not in world.book.by_job:
            result.violations.append(f"job {job_id} {row['status']}, and nothing ran")


def _judge_repeats(world: World, result: Result, job_id: str, runs: list[Run]) -> None:
    if len(runs) == 1:
        return
    lost = world.losses.get(runs[0].host, [])
    again = len(runs) - 1 <= sum(any(since <= run.at <= until for run in runs) for since, until, _ in lost)
    result.repeated += again
    if not again:
        where = ", ".join(f"{run.host} life {run.life} at {run.at:.0f}" for run in runs)
        result.violations.append(f"job {job_id} ran {len(runs)} times: {where}")


def _judge_known(world: World, result: Result, record: Record, job_id: str, run: Run) -> None:
    lost = world.losses.get(run.host, [])
    shown = job_id in record.set_aside and (world.restores or lost or job_id in record.early)
    if job_id in record.jobs or shown or _passing(run):
        return
    if any(since <= run.at <= until for since, until, _ in lost):
        result.forgotten += 1
    else:
        result.violations.append(f"job {job_id} ran on {run.host} at {run.at:.0f}: the server knows none")


def _passing(run: Run) -> bool:
    """Whether its row may be gone: the server's own lists are taken away after hours, there may be one a minute."""
    return run.kind is Kind.SNAPSHOTS


def judge_logs(world: World, result: Result, record: Record) -> None:
    """Logs in order, without gaps but declared ones, equal to what was written."""
    for job_id, row in record.jobs.items():
        runs = world.book.by_job.get(job_id, [])
        if len(runs) > 1 or (runs and _put_back(world, runs[0].host, job_id)):
            continue  # two machines of one identity wrote it, or one that had forgotten what it wrote: judged above
        written = runs[-1].lines if runs else []
        through = _judge_chunks(result, job_id, written, record.chunks.get(job_id, []))
        outcome = runs[-1].outcome if runs else None
        whole = outcome is not None and row["verdict_by"] == "agent" and outcome.status.value == row["status"]
        unknown = world.restores and any("is not known" in chunk["text"] for chunk in record.chunks.get(job_id, []))
        if whole and through < len(written) and not unknown:  # told to a database that was put back since, and so said
            result.violations.append(f"log of {job_id}: {len(written)} lines written, {through} stored")


def _judge_chunks(result: Result, job_id: str, written: list[Any], chunks: list[Any]) -> int:
    """Return the number of the last line that is stored (or declared dropped)."""
    expected = 1
    for chunk in chunks:
        first = chunk["first_line"]
        if first != expected + chunk["dropped_before"]:
            result.violations.append(f"log of {job_id}: line {first} where {expected} was expected")
        lines = chunk["text"].split("\n")
        if chunk["stream"] != "agent":
            there = [(chunk["stream"], line) for line in lines]
            if written[first - 1 : first - 1 + len(lines)] != there:
                result.violations.append(f"log of {job_id}: lines {first}.. are not what was written")
        expected = first + len(lines)
    return expected - 1


def broken_acks(world: World) -> list[str]:
    """Return what a server that has just died had promised and not stored."""
    return list(_broken(world, read_acked(world.server.path)))


def judge_acks(world: World, result: Result, record: Record) -> None:
    """Acked means stored."""
    result.violations += _broken(world, record.acked)


def _broken(world: World, acked: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for host in world.hosts:
        for journal_id, through in host.acked.items():
            stored = acked.get((host.host_id or "", journal_id), 0)
            if stored < through:
                yield f"{host.name}: acked through {through}, stored through {stored}"


def _doubted(row: sqlite3.Row, status: str) -> bool:
    """Whether a guard has made a warning of it: a snapshot from the future, by a clock that was wrong."""
    return (status, row["status"]) == ("succeeded", "warning") and row["told"] is not None


def judge_verdicts(world: World, result: Result, record: Record) -> None:
    """The agent's verdict is the server's."""
    for host in world.hosts:
        if not host.journal.exists():
            continue
        with closing(sqlite3.connect(host.journal)) as db:
            found = db.execute("SELECT job_id, json_extract(outcome, '$.status') FROM jobs").fetchall()
        for job_id, status in found:
            row = record.jobs.get(job_id)
            if row is None and (job_id in record.set_aside or any(map(_passing, world.book.by_job.get(job_id, ())))):
                continue
            if row is None:
                result.violations.append(f"{host.name}: its job {job_id} ({status}) is not on the server")
            elif row["status"] != status and not _doubted(row, status) and not _put_back(world, host.name, job_id):
                result.violations.append(f"{host.name}: job {job_id} is {status} there, {row['status']} on the server")


def _put_back(world: World, host: str, job_id: str) -> bool:
    """Whether the host was put back to a copy in which this run had not ended: what it says of it now is an echo."""
    runs = world.book.by_job.get(job_id, [])
    if len({run.host for run in runs}) > 1:
        return bool(world.restores)
    copies = [until for _, until, how in world.losses.get(host, []) if how != "lose_data"]
    return any(run.at <= until for run in runs for until in copies)  # a run may wait long for what became of it
