"""A real server, hostile agents with good credentials, an honest one and an operator beside them; and the judgement.

The hostile send what `mutate` makes, as fast as the server takes it, on sessions of their own. A message counts as sent
when the server has shown that it read on behind it, or has closed over it. Meanwhile one honest agent does what it is
ordered, one operator orders and looks, and the server's memory is measured.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import trio

from restic_manager.client import Client
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import BackupSpec, Outcome, Status, new_id
from restic_manager.link import Link, LinkClosed, dial
from restic_manager.protocol import api, codec
from restic_manager.protocol.jointoken import parse_token
from restic_manager.protocol.messages import (
    CommandRun,
    Hello,
    JobFinished,
    JobLog,
    JobStarted,
    Join,
    Joined,
    OutboxHead,
    Welcome,
)
from restic_manager.runtime.clock import SystemClock
from tests.e2e.stage import Stage, stage
from tests.hostile.mutate import Known, Mutator
from tests.hostile.raw import BINARY, PING, Over, Raw, connected, frame

HOSTILE: Final = 6
BATCH: Final = 64
SLOWEST: Final = 25.0
"""Seconds within which the honest must have had their answers, however busy the machine."""
GROWTH_MB: Final = 120.0
"""How much the server may grow over what it needed with the first tenth of the messages."""
_ERROR: Final = re.compile(r"^.*\b(?:ERROR|CRITICAL)\b.*$|^Traceback.*$", re.MULTILINE)

T = TypeVar("T")


@dataclass
class Played:
    """What came of it. Times in seconds, memory in MB (10^6 bytes)."""

    messages: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    runs: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Return it in a few lines."""
        ends = ", ".join(f"{count} {name}" for name, count in self.ends.most_common())
        answers = ", ".join(f"{count} {name}" for name, count in self.answers.most_common(12))
        pace = self.messages / max(self.seconds, 0.001)
        first, most, last = self.memory[0], max(self.memory), self.memory[-1]
        lines = [
            f"{self.messages:,} hostile messages in {self.seconds:.0f} s ({pace:,.0f}/s); sessions ended: {ends or 0}",
            f"answered: {answers}",
            f"honest runs: {_spread(self.runs)}; an operator's look: {_spread(self.looks)}",
            f"server memory: {first:.0f} MB at first, at most {most:.0f}, {last:.0f} at the end",
            f"{len(self.wrong)} wrong",
        ]
        return "\n".join([*lines, *(f"    {each}" for each in self.wrong[:20])])


def _spread(times: list[float]) -> str:
    if not times:
        return "none"
    ordered = sorted(times)
    return f"{len(ordered)}, median {ordered[len(ordered) // 2] * 1e3:.0f} ms, slowest {ordered[-1] * 1e3:.0f} ms"


def play(folder: Path, *, messages: int, seed: int) -> Played:
    """Given an empty folder, send so many hostile messages to a server in it; return what came of it, judged."""
    with stage(folder) as here:
        program = here.start_server("--log-level", "info")
        game = _Game(here, messages=messages, seed=seed)
        try:
            trio.run(game.run)
        except* (ManagerError, LinkClosed, Over, trio.TooSlowError) as group:
            game.played.wrong.append(f"the game broke off: {group.exceptions!r}")
        if program.process.poll() is not None:
            game.played.wrong.append(f"the server ended with {program.process.returncode}")
        elif program.stop() != 0:
            game.played.wrong.append("the server did not stop as it should")
        errors = Counter(re.sub(r"\d+", "N", line)[:160] for line in _ERROR.findall(program.said()))
        game.played.wrong += [f"{count} x in the server's log: {line}" for line, count in errors.most_common(8)]
        return game.played


class _Game:
    """One run of it."""

    def __init__(self, here: Stage, *, messages: int, seed: int) -> None:
        self.here = here
        self.client: Client = here.client
        self.wanted = messages
        self.dice = random.Random(seed)  # noqa: S311 - the same messages for the same seed
        self.played = Played()
        self.known: list[Known] = []

    async def run(self) -> None:
        honest_id, honest_secret = await self._join("honest")
        await self._add("good", "honest")
        hosts = [await self._join(f"hostile-{number}") for number in range(HOSTILE)]
        for number in range(HOSTILE):
            await self._add(f"bad-{number}", f"hostile-{number}")
        schedules = {one.name: one.id for one in await self._ask(self.client.schedules)}
        for number, (host_id, _) in enumerate(hosts):
            others = [id_ for name, id_ in schedules.items() if name != f"bad-{number}"]
            self.known.append(Known(host_id, [schedules[f"bad-{number}"]], others))
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            ready = trio.Event()
            nursery.start_soon(self._honest, honest_id, honest_secret, ready)
            with trio.fail_after(SLOWEST * 3):
                await ready.wait()
            nursery.start_soon(self._measure)
            async with trio.open_nursery() as attack:
                attack.start_soon(self._operator)
                for known, (_, secret) in zip(self.known, hosts, strict=True):
                    attack.start_soon(self._hostile, known, secret, random.Random(self.dice.random()))  # noqa: S311 - seeded
                attack.start_soon(self._strangers, random.Random(self.dice.random()))  # noqa: S311 - seeded
            self.played.seconds = time.monotonic() - began
            await self._run_once()
            nursery.cancel_scope.cancel()
        await self._judge()

    # -- the hostile ---------------------------------------------------------------------------------------------------

    async def _hostile(self, known: Known, secret: str, dice: random.Random) -> None:
        mutator = Mutator(dice, known)
        journal, instance = new_id(), new_id()
        while self.played.messages < self.wanted:
            if dice.random() < 0.02:
                journal, known.seq = new_id(), 0
            try:
                with trio.fail_after(60):
                    async with connected(self.here.port, secret) as raw:
                        await raw.send(frame(mutator.hello(journal, instance).encode()))
                        welcome = await raw.message()
                        if welcome["type"] == "welcome":
                            known.seq = int(str(welcome["acked_through"]))
                            mutator.hello(journal, instance)  # its sequences go on from there
                            await self._session(raw, mutator, known, dice)
                        else:
                            self.played.answers[f"refused {welcome.get('code')}"] += 1
                            journal, known.seq = new_id(), 0
            except* Over as group:
                self.played.ends[str(_first(group))] += 1
            except* OSError as group:
                self.played.ends[type(_first(group)).__name__] += 1

    async def _session(self, raw: Raw, mutator: Mutator, known: Known, dice: random.Random) -> None:
        number = 0
        while self.played.messages < self.wanted:
            number += 1
            payloads = mutator.batch(BATCH)
            self.played.messages += len(payloads)
            framed = [self._framed(payload, dice) for payload in payloads]
            framed.append(frame(b'{"type":"barrier-%d"}' % number))
            async with trio.open_nursery() as both:
                both.start_soon(_send, raw, b"".join(framed))
                await self._until(raw, known, f"barrier-{number}")
                both.cancel_scope.cancel()

    def _framed(self, payload: bytes, dice: random.Random) -> bytes:
        choice = dice.random()
        if choice < 0.0001:
            return frame(payload, BINARY)
        if choice < 0.0002:
            return dice.randbytes(dice.randint(2, 40))
        if choice < 0.03:
            cuts = sorted(dice.randrange(len(payload) + 1) for _ in range(dice.randint(1, 5)))
            pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
            parts = [frame(piece, 1 if at == 0 else 0, fin=at == len(pieces) - 1) for at, piece in enumerate(pieces)]
            parts.insert(dice.randrange(len(parts) + 1), frame(b"ping", PING))
            return b"".join(parts)
        return frame(payload, mask=b"\0\0\0\0")

    async def _until(self, raw: Raw, known: Known, barrier: str) -> None:
        """Read answers until the server has read as far as this."""
        while True:
            said = await raw.message()
            kind = str(said["type"])
            if kind == "error":
                if said.get("ref") == barrier:
                    return
                self.played.answers[f"error {said['code']}"] += 1
                continue
            self.played.answers[kind + (f" {said['answer']}" if kind == "schedule.fired" else "")] += 1
            if kind == "ack":
                known.seq = int(str(said["through"]))
            if kind == "command.run" or said.get("job_id"):
                self._learn(known, str(said["job_id"]))

    def _learn(self, known: Known, job_id: str) -> None:
        if job_id not in known.jobs:
            known.jobs = [*known.jobs[-50:], job_id]
            for other in self.known:
                if other is not known:
                    other.others = [*other.others[-50:], job_id]

    async def _strangers(self, dice: random.Random) -> None:
        """Bytes on connections of nobody, and joins that are none."""
        while self.played.messages < self.wanted:
            try:
                with trio.move_on_after(1):
                    if dice.random() < 0.5:
                        async with await trio.open_tcp_stream("127.0.0.1", self.here.port) as stream:
                            await stream.send_all(
                                dice.choice((dice.randbytes(300), b"GET / HTTP/1.1\r\n\r\n", b"\x16\3"))
                            )
                            while await stream.receive_some(4_096):
                                pass
                    else:
                        async with connected(self.here.port, dice.choice(("rmi1-x", "é".encode().hex())), "/join"):
                            pass
            except Over as end:
                self.played.ends[f"stranger {end.code}"] += 1
            except (OSError, trio.BrokenResourceError):
                self.played.ends["stranger reset"] += 1
            await trio.sleep(0.02)

    # -- the honest ----------------------------------------------------------------------------------------------------

    async def _honest(self, host_id: str, secret: str, ready: trio.Event) -> None:
        """Do what is ordered and report it, on one session from the beginning to the end."""
        async with dial(self.here.url, path="/agent", bearer=secret, decoder=codec.from_server) as link:
            await link.send(
                Hello(
                    protocol=1,
                    capabilities=("kinds",),
                    agent_version="0.1.0",
                    os="test",
                    timezone="UTC",
                    tzdata="unknown",
                    boot_id="boot",
                    instance_id=new_id(),
                    journal_id=new_id(),
                    outbox=OutboxHead(),
                    clock=datetime.now(UTC),
                )
            )
            seq = 0
            while True:
                message = (await link.receive()).message
                if isinstance(message, Welcome):
                    link.start_heartbeat(message.heartbeat_interval, SystemClock())
                    ready.set()
                elif isinstance(message, CommandRun):
                    seq = await _carry_out(link, message, seq)

    async def _operator(self) -> None:
        while self.played.messages < self.wanted:
            await self._run_once()
            began = time.monotonic()
            await self._ask(self.client.status)
            await self._ask(functools.partial(self.client.jobs, limit=20))
            self.played.looks.append(time.monotonic() - began)
            await trio.sleep(0.2)

    async def _run_once(self) -> None:
        """Order a run of the honest host and wait for its end."""
        began = time.monotonic()
        with trio.fail_after(SLOWEST * 2):
            made = await self._ask(lambda: self.client.run_schedule("good", api.RunRequest()))
            events = await self._ask(lambda: list(self.client.events(made[0].id, follow=True, logs=True)))
        ends = [event.job.status for event in events if isinstance(event, api.JobEvent)]
        took = time.monotonic() - began
        self.played.runs.append(took)
        if ends[-1] is not Status.SUCCEEDED:
            self.played.wrong.append(f"an honest run ended {ends[-1]}")
        if took > SLOWEST:
            self.played.wrong.append(f"an honest run took {took:.1f} s")

    async def _measure(self) -> None:
        program = self.here.server
        assert program is not None
        while True:
            self.played.memory.append(program.resident_mb())
            await trio.sleep(0.5)

    async def _judge(self) -> None:
        """Every look that an operator may take still succeeds, and nothing of the honest host has been touched."""
        client = self.client
        for ask in (client.status, client.hosts, client.schedules, client.repos, client.server, client.pauses):
            await self._ask(ask)
        for name in ("good", *(f"bad-{number}" for number in range(HOSTILE))):
            await self._ask(functools.partial(client.history, name, limit=1_000))
            await self._ask(functools.partial(client.next_slots, name, count=5))
        for job in await self._ask(functools.partial(client.jobs, limit=200)):
            await self._ask(lambda job=job: list(client.events(job.id, follow=False, logs=True)))  # type: ignore[misc]  # a default argument binds the loop's job
        bad = [
            job
            for job in await self._ask(functools.partial(client.jobs, host="honest", limit=1_000))
            if job.status is not Status.SUCCEEDED or job.schedule not in {"good", None} or job.log_lines > 1
        ]
        self.played.wrong += [f"a job of the honest host is {job.status}: {job.id}" for job in bad]
        first = self.played.memory[: max(1, len(self.played.memory) // 10)]
        grown = max(self.played.memory) - max(first)
        if grown > GROWTH_MB:
            self.played.wrong.append(f"the server has grown by {grown:.0f} MB after its first tenth of the time")

    # -- setting the scene ---------------------------------------------------------------------------------------------

    async def _ask(self, question: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(question)

    async def _join(self, name: str) -> tuple[str, str]:
        invited = await self._ask(lambda: self.client.invite_host(api.InviteRequest(name=name)))
        token = parse_token(invited.token).text
        secret = secrets.token_urlsafe(32)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        async with dial(self.here.url, path="/join", bearer=token, decoder=codec.join_answer) as link:
            await link.send(Join(protocol=1, agent_version="0.1.0", credential_sha256=digest))
            joined = (await link.receive()).message
        assert isinstance(joined, Joined)
        return joined.host_id, secret

    async def _add(self, name: str, host: str) -> None:
        """A repository and a schedule of its own for one host."""
        repo = api.RepoRequest(name=name, url=str(self.here.folder / name), password="pw")
        await self._ask(lambda: self.client.add_repo(repo))
        spec = BackupSpec(paths=("/etc",))
        asked = api.ScheduleRequest(name=name, cron="@every 1s", repo=name, spec=spec, hosts=(host,))
        await self._ask(lambda: self.client.add_schedule(asked))


async def _carry_out(link: Link, order: CommandRun, seq: int) -> int:
    now = datetime.now(UTC)
    outcome = Outcome(status=Status.SUCCEEDED, exit_code=0)
    await link.send(JobStarted(seq=seq + 1, job_id=order.job_id, started_at=now))
    await link.send(
        JobLog(seq=seq + 2, job_id=order.job_id, at=now, stream="stdout", first_line=1, text="an honest line")
    )
    await link.send(JobFinished(seq=seq + 3, job_id=order.job_id, outcome=outcome, started_at=now, finished_at=now))
    return seq + 3


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _send(raw: Raw, data: bytes) -> None:
    try:
        await raw.send(data)
    except Over:
        return  # who reads is told why
