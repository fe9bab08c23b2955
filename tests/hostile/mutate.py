"""Frames that no honest agent sends: seeded, and near enough to the truth to reach deep. Pure: bytes out, no socket.

It knows what a stolen host would know (its own ids) and what it might have heard of (ids of other hosts), and takes
every message there is in both directions as it should be, then damages it: fields, values, structure, characters,
bytes. Some it leaves whole: a claim on another host's job is no less hostile for being well formed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from restic_manager.domain.instants import slot_text
from restic_manager.domain.model import slot_job_id
from restic_manager.protocol.codec import WireError, encode, from_agent
from restic_manager.protocol.messages import DURABLE_TYPES
from tests.protocol.samples import SAMPLES

LARGEST: Final = 2**53
_SAMPLES: Final = {name: json.loads(encode(message)) for name, message in SAMPLES.items()}
_OF_AGENTS: Final = (
    "heartbeat", "error", "goodbye", "schedule.ack", "schedule.fire", "slot.decided", "job.started", "job.log",
    "job.finished", "job.progress", "job.rows", "hello", "credential.new", "credential.used",
)  # fmt: skip
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2, LARGEST, LARGEST + 1, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, 5e-324,
    "", "x", "\0", "'", '"; DROP TABLE jobs; --', "x" * 300, "é" * 9_000, "../../etc/passwd", "--option", "\n",
    "\u2028", "\U0001f4a3", "queued", "running", "succeeded", "ran", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "9989-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z",
    "2026-01-01T00:00:00.123456789Z", [], {}, [[]], [{}], {"kind": "backup"}, {"type": "hello"},
)  # fmt: skip
_CHARACTERS: Final = (
    '"',
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "0",
    "\\u0000",
    "\\ud800",
    "\0",
    "e9",
    "é",
    "1e999",
    "NaN",
)


@dataclass
class Known:
    """What one hostile host knows. jobs, schedules: its own. others: ids of other hosts' jobs; all may grow."""

    host_id: str
    schedules: list[str]
    foreign_schedules: list[str]
    jobs: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    seq: int = 0
    """The highest sequence that it knows to be taken."""


class Mutator:
    """Damaged frames for one hostile host, the same for the same seed as long as what it knows is."""

    def __init__(self, dice: random.Random, known: Known) -> None:
        """Given the dice and what it knows (kept, not copied), be ready."""
        self._dice = dice
        self._known = known
        self._next = known.seq

    def hello(self, journal_id: str, instance_id: str) -> str:
        """Return a hello that the server takes."""
        self._next = self._known.seq
        hello = {
            **_SAMPLES["hello"],
            "journal_id": journal_id,
            "instance_id": instance_id,
            "outbox": {"head": LARGEST, "acked": self._known.seq},
            "clock": _text(datetime.now(UTC)),
        }
        return json.dumps(hello)

    def batch(self, most: int) -> list[bytes]:
        """Return the payloads of the next text frames: what closes the link comes last, and not in every batch."""
        found: list[bytes] = []
        while len(found) < most:
            payload = self._frame()
            read = _read(payload)
            if read is None or (isinstance(read, WireError) and read.fatal):
                if self._dice.random() < 0.95:
                    continue
                return [*found, payload]
            durable = read.durable if isinstance(read, WireError) else hasattr(read, "seq")
            if durable and read.seq == self._next + 1:
                self._next += 1
            found.append(payload)
        return found

    def _frame(self) -> bytes:
        choice = self._dice.random()
        if choice < 0.03:
            return self._bytes()
        if choice < 0.031:
            return self._heavy()
        tree = self._message()
        if choice < 0.45:
            self._damage(tree)
        text = json.dumps(tree, ensure_ascii=self._dice.random() < 0.5, separators=(",", ":"))
        if choice > 0.99:
            text = self._scratch(text)
        return text.encode("utf-8", errors="surrogatepass" if choice > 0.9995 else "replace")

    # -- whole, with ids that mean something ---------------------------------------------------------------------------

    def _message(self) -> dict[str, Any]:
        dice = self._dice
        if dice.random() < 0.1:
            tree: dict[str, Any] = json.loads(json.dumps(dice.choice(list(_SAMPLES.values()))))
        else:
            tag = dice.choice(_OF_AGENTS)
            names = [name for name in _SAMPLES if name == tag or name.startswith(f"{tag}.")]
            tree = json.loads(json.dumps(_SAMPLES[dice.choice(names)]))
        if dice.random() < 0.9:
            self._aim(tree)
        if tree.get("type") in DURABLE_TYPES:
            tree["seq"] = self._sequence()
        return tree

    def _aim(self, tree: dict[str, Any]) -> None:
        """Put ids and instants in that mean something to this server."""
        dice, known = self._dice, self._known
        foreign = dice.random() < 0.005
        if "schedule_id" in tree or dice.random() < 0.1:
            tree["schedule_id"] = dice.choice(known.foreign_schedules if foreign else known.schedules)
        slot = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=self._ago())
        for name in ("scheduled_at", "from", "to", "started_at", "finished_at", "at", "into"):
            if name in tree:
                tree[name] = _text(slot + timedelta(seconds=dice.choice((0, 0, 0, 60, -60, 3_600, 10**8))))
        if "job_id" in tree:
            pool = (known.others if foreign else known.jobs) or ["no-such-job"]
            tree["job_id"] = dice.choice(pool)
            if "schedule_id" in tree and dice.random() < 0.5:
                owner = known.host_id
                tree["job_id"] = slot_job_id(tree["schedule_id"], owner, slot)
                tree["scheduled_at"] = slot_text(slot)

    def _ago(self) -> int:
        """Return how many seconds ago a slot was: mostly just now."""
        return self._dice.randrange(0, 60) if self._dice.random() < 0.7 else self._dice.randrange(-1_200, 100_000)

    def _sequence(self) -> int:
        choice = self._dice.random()
        if choice < 0.9:
            return self._next + 1
        if choice < 0.998:
            return self._dice.choice((0, 1, self._next))
        return self._dice.choice((LARGEST, self._next + 1_000))

    # -- and damaged ---------------------------------------------------------------------------------------------------

    def _damage(self, tree: Any) -> None:
        dice = self._dice
        for _ in range(dice.randint(1, 3)):
            spots = list(_spots(tree))
            if not spots:
                return
            holder, key = dice.choice(spots)
            match dice.randrange(6):
                case 0 if isinstance(holder, dict):
                    del holder[key]
                case 1:
                    holder[key] = [holder[key]] * dice.choice((0, 1, 2, 3, 50))
                case 2 if isinstance(holder, dict):
                    holder[f"{key}é" if dice.random() < 0.5 else dice.choice(("type", "seq", "job_id"))] = holder[key]
                case 3 if isinstance(holder[key], str) and holder[key]:
                    text = holder[key]
                    at = dice.randrange(len(text))
                    holder[key] = text[:at] + chr(dice.randrange(1, 0x2FF)) + text[at + dice.randint(0, 2) :]
                case 4 if isinstance(holder[key], int):
                    holder[key] = holder[key] + dice.choice((-1, 1, 2**31, -(2**31), 2**53, 2**62))
                case _:
                    holder[key] = json.loads(json.dumps(dice.choice(_VALUES)))

    def _scratch(self, text: str) -> str:
        dice = self._dice
        letters = list(text)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(letters))
            match dice.randrange(4):
                case 0:
                    del letters[at : at + dice.randint(1, 3)]
                case 1:
                    letters.insert(at, dice.choice(_CHARACTERS))
                case 2:
                    other = dice.randrange(len(letters))
                    letters[at], letters[other] = letters[other], letters[at]
                case _:
                    letters[at] = chr(dice.randrange(0x250))
            if not letters:
                break
        return "".join(letters)

    def _bytes(self) -> bytes:
        """Return what goes for a message only by its type, or not even by that."""
        dice = self._dice
        tag = dice.choice((*_OF_AGENTS, "job.checked", "no such type", "x" * 500, ""))
        makers: Sequence[Callable[[], str]] = (
            lambda: json.dumps({"type": tag}),
            lambda: json.dumps({"type": tag, "seq": dice.choice(_VALUES)}),
            lambda: f'{{"type":"{tag}","x":{"[" * dice.choice((10, 500, 998, 3_000))}',
            lambda: f'{{"type":"{tag}","x":{"[" * 990}{"]" * 990}}}',
            lambda: f'{{"type":"{tag}","type":"goodbye","reason":1}}',
            lambda: f'{{"type":"{tag}","seq":{"9" * dice.choice((17, 400, 5_000))}}}',
            lambda: f'{{"type":"{tag}","seq":1e{dice.choice((2, 300, 400))}}}',
        )
        if dice.random() < 0.05:
            return dice.randbytes(dice.randint(0, 300))
        if dice.random() < 0.05:
            return dice.choice((b"", b"[]", b"1", b"null", b'""', b"{}", b'{"type":null}', b"\xef\xbb\xbf{}", b"NaN"))
        return dice.choice(makers)().encode()

    def _heavy(self) -> bytes:
        """Return something as large as may be, or nearly so."""
        dice = self._dice
        known = self._known
        job = dice.choice(known.jobs or ["none"])
        match dice.randrange(5):
            case 0:
                text = dice.choice(("\n", "x", "é", "\\u0001", "line\\n")) * dice.choice((60_000, 150_000))
                tree = f'{{"type":"job.log","seq":{self._sequence()},"job_id":"{job}","at":"2026-01-01T00:00:00Z",'
                return (
                    f'{tree}"stream":"stdout","first_line":{dice.choice((1, 99, LARGEST))},"text":"{text}"}}'.encode()
                )
            case 1:
                refused = {"schedule_id": "x", "code": "y", "reason": "z" * 50}
                return json.dumps(
                    {"type": "schedule.ack", "epoch": "e", "version": 1, "refused": [refused] * 2_000}
                ).encode()
            case 2:
                row = {"row": "node", "path": "/x" * 20, "type": "file"}
                return json.dumps(
                    {"type": "job.rows", "job_id": job, "first": 1, "rows": [row] * dice.choice((1, 2_000, 10_001))}
                ).encode()
            case 3:
                return b'{"type":"heartbeat","clock":"2026-01-01T00:00:00Z","x":"' + b"y" * 100_000 + b'"}'
            case _:
                return b" " * dice.choice((1_000, 200_000)) + json.dumps(self._message()).encode()


def _read(payload: bytes) -> Any:
    """Return the message, or the WireError, that the server will see; None for bytes that are no text."""
    try:
        return from_agent.decode(payload.decode())
    except WireError as error:
        return error
    except UnicodeError:
        return None


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _spots(tree[key])
