"""docs/protocol.md is true: its tables are the classes, its frames are frames, its numbers are the program's."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest

from restic_manager.agent import joblog, records, runner, session
from restic_manager.agent.lookup import SecretMissingError
from restic_manager.domain import firing, planning
from restic_manager.domain.cron import Timetable
from restic_manager.domain.instants import slot_text
from restic_manager.domain.model import JOB_NAMESPACE, Fate, attempt_job_id, slot_job_id
from restic_manager.domain.pathtext import text_to_path
from restic_manager.link import channel, meter, sluice, wire
from restic_manager.protocol import announcing, codec, messages
from restic_manager.protocol.codec import WireCode, WireError
from restic_manager.protocol.messages import (
    CommandCancel,
    CommandRun,
    Hello,
    Message,
    ScheduleFire,
    ScheduleFired,
    ScheduleSet,
    SlotDecided,
    Welcome,
)
from restic_manager.protocol.session import (
    Accepted,
    Holding,
    JournalRecord,
    frame_hash,
    judge_hello,
    judge_sequence,
    welcome_fits,
)
from restic_manager.restic.failures import REMEDIES
from restic_manager.runtime.signing import is_signed, public_key
from restic_manager.server import agents, sessions
from restic_manager.server.store import repo_secrets, schedule_checks
from tests.protocol import shapes
from tests.protocol.shapes import DECODERS

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
BLOCK: Final = re.compile(r"^```json([^\n]*)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
FRAMES: Final = [(match[1].strip(), match[2]) for match in BLOCK.finditer(DOCUMENT)]
DIRECTION: Final = {
    "agent": "**Agent → server**",
    "server": "**Server → agent**",
    "both": "**Both**",
}


def section(title: str, level: str = "##") -> str:
    """Return the text below one heading, up to the next of its level or above."""
    pattern = rf"^{level} {re.escape(title)}\n(.*?)(?=^#{{2,{len(level)}}} |\Z)"
    found = re.findall(pattern, DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, title
    return str(found[0])


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in a text, headings and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [number for number, row in enumerate(cells) if all(re.fullmatch("-+", cell) for cell in row)]
    without = {number for rule in rules for number in (rule - 1, rule)}
    return [row for number, row in enumerate(cells) if number not in without]


def codes(heading: str) -> set[str]:
    """Return the codes in the first column of the table that begins with this heading."""
    start = DOCUMENT.index(f"| {heading} |")
    table = DOCUMENT[start : DOCUMENT.index("\n\n", start)]
    return {row[0].strip("`") for row in rows(table)}


# -- the reference ----------------------------------------------------------------------------------------------------


def headings(title: str) -> list[str]:
    return re.findall(r"^### (.+)$", section(title), re.MULTILINE)


def test_every_message_has_its_heading() -> None:
    assert sorted(headings("Reference: messages")) == sorted(shapes.MESSAGES)


def test_every_value_has_its_heading() -> None:
    assert sorted(headings("Reference: values inside messages")) == sorted(shapes.structs())


EVERYTHING: Final[dict[str, type[msgspec.Struct]]] = {**shapes.MESSAGES, **shapes.structs()}


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_fields_are_the_class_s(name: str) -> None:
    """Name, type with bounds, required or default: cell by cell, in order, nothing missing and nothing more."""
    cls = EVERYTHING[name]
    config = cls.__struct_config__
    tag = [[f"`{config.tag_field}`", f"`{config.tag}`", "yes"]] if config.tag_field in {"kind", "row"} else []
    wanted = tag + [
        [f"`{field.encode_name}`", shapes.described(field.type), shapes.required(field)]
        for field in shapes.fields_of(cls)
    ]
    written = rows(section(name, "###"))
    assert [row[:3] for row in written] == wanted
    assert all(len(row) == 4 and row[3] for row in written), "each field has a meaning"


@pytest.mark.parametrize("tag", shapes.MESSAGES)
def test_the_direction_is_the_union_s(tag: str) -> None:
    cls = shapes.MESSAGES[tag]
    said_by = {
        speaker.rpartition("-")[2] for speaker, union in shapes.DIRECTIONS.items() if cls in shapes.members(union)
    }
    assert section(tag, "###").lstrip().startswith(DIRECTION["both" if len(said_by) == 2 else said_by.pop()])
    assert ("durable:" in section(tag, "###") and "not durable:" not in section(tag, "###")) == (
        tag in messages.DURABLE_TYPES
    )


def test_every_link_leads_somewhere() -> None:
    titles = re.findall(r"^#{2,3} (.+)$", DOCUMENT, re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert len(anchors) == len(set(anchors)), "two headings with one anchor"
    links = set(re.findall(r"\]\(#([^)]+)\)", DOCUMENT))
    assert links <= set(anchors)
    contents = re.findall(r"^- \[.+\]\(#(.+)\)$", DOCUMENT, re.MULTILINE)
    chapters = [anchor for anchor, title in zip(anchors, titles, strict=True) if f"\n## {title}\n" in DOCUMENT]
    assert contents == chapters


# -- the words in between ---------------------------------------------------------------------------------------------


def source(*parts: str) -> str:
    """Return the program's own text below these paths."""
    paths = [path for part in parts for path in sorted((ROOT / "restic_manager" / part).rglob("*.py"))]
    paths += [ROOT / "restic_manager" / part for part in parts if part.endswith(".py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_refusals_are_those_the_program_says() -> None:
    said = set(re.findall(r"Refused\(\s*code=\"(\w+)\"", source("server", "link", "protocol/session.py")))
    assert codes("`code` of a `refused`") == said


def test_errors_are_those_the_program_says() -> None:
    text = source("server", "link", "agent")
    said = set(re.findall(r"(?<!\w)Error\(\s*code=\"(\w+)\"", text))
    fatal = {"not_json", "too_large"}
    assert codes("`code` of an `error`") == said | (set(get_args(WireCode)) - fatal)
    assert all(WireError("x", code=code).fatal for code in get_args(WireCode) if code in fatal)


def test_answers_are_those_the_server_gives() -> None:
    table = rows(section("Answers", "###"))
    assert {row[0].strip("`") for row in table} == {"dispatched", "duplicate", "rejected"}
    said = set(re.findall(r"Rejected\(\s*\"(\w+)\"", source("domain/firing.py")))
    assert {row[1].strip("`") for row in table} - {""} == said


def test_failures_are_those_the_agent_reports() -> None:
    own = set(re.findall(r"Failure\(\s*code=\"(\w+)\"", source("agent")))
    assert codes("`code` of a failure") == set(REMEDIES) | own | {SecretMissingError.default_code}


def test_fates_are_all_there() -> None:
    start = DOCUMENT.index("| `fate` | who says it |")
    assert {row[0].strip("`") for row in rows(DOCUMENT[start : DOCUMENT.index("\n\n", start)])} == {*Fate}


def test_close_codes_are_those_the_link_says() -> None:
    text = source("link", "server", "agent")
    said = set(re.findall(r"(?<![\d_])10[01]\d(?![\d_])", text)) - {"1006"}  # which is what it is called when none came
    assert codes("code") == said


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("one frame, in characters (Unicode code points, as JSON text)", messages.MAX_MESSAGE),
        ("text of one `job.log`, in characters", messages.MAX_LOG_TEXT),
        ("a `schedule.set` is cut into parts of about, in characters", messages.MAX_ENTRIES_TEXT),
        ("the rows of one `job.rows`, in characters about", messages.MAX_ROWS_TEXT),
        ("reading jobs at once", runner.READING_AT_ONCE),
        ("the HTTP request of the handshake, in bytes", wire.HANDSHAKE_BYTES),
        ("from the connection to the whole request, in seconds", sessions.HELLO_SECONDS),
        ("from the accepted request to the first message, in seconds", sessions.HELLO_SECONDS),
        ("frames that one message may be cut into", meter.MAX_PARTS),
        ("frames of any sort that are read of one peer, in a second", sluice.FRAMES_A_SECOND),
        ("of these at once, after a silence", sluice.FRAMES_AT_ONCE),
        ("messages that wait to be sent on one link", channel.MAX_QUEUED),
        ("characters that wait to be sent on one link", channel.MAX_QUEUED_TEXT),
        ("heartbeat intervals without a sign of life", channel.MISSED_HEARTBEATS),
    ],
)
def test_sizes_and_times(what: str, value: float) -> None:
    assert [what, f"{value:,.0f}"] in rows(section("Sizes and times", "###"))


@pytest.mark.parametrize(
    ("phrase", "true"),
    [
        ("This is protocol version **1**", messages.PROTOCOL_VERSION == 1),
        ("capability `standing-orders`", messages.CAP_STANDING_ORDERS == "standing-orders"),
        ("answers a ping within 5 s", sessions.PROBE_SECONDS == 5),
        ("every 5 to 10 minutes", session._REFUSED_PAUSE == 600),
        ("at most once a second", session._PROGRESS_EVERY == 1),
        ("for 40 days, at least the last 1,000, at most 200,000", records.KEEP_FINISHED.days == 40),
        ("at least the last 1,000, at most 200,000", (records.KEEP_AT_LEAST, records.KEEP_AT_MOST) == (1_000, 200_000)),
        ("64 Mi characters", joblog.OUTBOX_LIMIT == 64 << 20),
        ("allows 5 s in the slot's favour", firing.TOLERANCE.seconds == 5),
        ("more than 10 min in the server's future", firing.FUTURE_LIMIT.seconds == 600),
        ("within 3 h of a slot", firing.TZDATA_LIMIT.seconds == 3 * 3_600),
        ("more than 60 s late", planning.ON_TIME.seconds == 60),
        ("set back by up to 2 h", planning.CLOCK_HOLD.seconds == 7_200),
        ("at most 262,144 bytes", schedule_checks.MAX_SPEC_TEXT == 262_144),
        ("at most 131,072 bytes", repo_secrets.MAX_ACCESS_TEXT == 131_072),
        ("Years 1970 to 9989", (codec._EARLIEST.year, codec._LATEST.year) == (1970, 9990)),
        ("## Joining", agents.DRAIN_SECONDS < sessions.HELLO_SECONDS),
    ],
)
def test_numbers_in_the_text(phrase: str, true: bool) -> None:
    assert phrase in re.sub(r"\s+", " ", DOCUMENT)
    assert true


def test_what_is_said_not_to_be_in_use_is_not() -> None:
    """When one of these comes into use, its paragraph has to go."""
    text = source("agent")
    assert "clock_back" not in text


def test_reasons_in_the_text_are_the_planner_s() -> None:
    text = source("domain/planning.py")
    for reason in ("superseded by revision", "already past when revision", '"removed"', '"disabled"'):
        assert reason in text
        assert f"reason `{reason.strip(chr(34))}" in re.sub(r"\s+", " ", DOCUMENT)


# -- examples ---------------------------------------------------------------------------------------------------------


def test_every_example_says_who_speaks() -> None:
    assert len(FRAMES) > 20
    assert {speaker for speaker, _ in FRAMES} == set(shapes.DIRECTIONS)


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_every_frame_decodes_and_is_whole(number: int) -> None:
    speaker, frame = FRAMES[number]
    message = DECODERS[speaker].decode(frame)
    # All members are written, and the values are spelled as this implementation does.
    assert json.loads(codec.encode(message)) == json.loads(frame)
    if isinstance(message, ScheduleSet):
        for raw in message.entries:
            codec.decode_entry(raw)
    if "\n" not in frame:
        assert codec.encode(message) == frame


def said(cls: type[Any], speaker: str) -> list[Any]:
    """Return the messages of one class in the example session, in order."""
    return [message for who, message, _ in conversation() if isinstance(message, cls) and who == speaker]


def conversation() -> list[tuple[str, Message, str]]:
    """Return the example session: who, what, and the frame."""
    blocks = BLOCK.findall(section("A session, frame by frame"))
    return [(who.strip(), DECODERS[who.strip()].decode(frame), frame) for who, frame in blocks]


def test_the_announcement_is_signed() -> None:
    said = {who: [DECODERS[who].decode(frame) for speaker, frame in FRAMES if speaker == who] for who in DECODERS}
    challenge, announced = said["announce-server"]
    (announce,) = said["announce-agent"]
    key, signature = announcing.bytes_of(announce.public_key), announcing.bytes_of(announce.signature)
    assert is_signed(key, announcing.signed_bytes(announce, challenge.nonce), signature)
    assert announcing.fingerprint_of(key) == announced.fingerprint
    assert public_key(bytes(range(32))) == key
    assert announcing.bytes_of(challenge.nonce) == bytes(range(32))


def test_the_session_holds_together() -> None:
    """Replay it with the program's own rules: hellos, sequences, hashes, ids."""
    first, second = said(Welcome, "server")
    hello, again = said(Hello, "agent")
    holding = Holding(epoch=first.epoch, version=1)
    assert judge_hello(hello, None, holding) == Accepted(acked_through=0, acked_hash=None, new_journal=True)
    record = JournalRecord(acked_through=0, acked_hash=None)
    acks = []
    for who, message, frame in conversation():
        if isinstance(message, Hello) and message.outbox.head:
            assert message == again
            verdict = judge_hello(message, record, holding)
            assert verdict == Accepted(acked_through=3, acked_hash=record.acked_hash, new_journal=False)
            assert (second.acked_through, second.acked_hash) == (3, record.acked_hash)
            assert welcome_fits(second, message.outbox, record.acked_hash)
        seq = getattr(message, "seq", None)
        if seq is not None:
            assert who == "agent"
            assert judge_sequence(record.acked_through, seq) == "next"
            record = JournalRecord(acked_through=seq, acked_hash=frame_hash(frame))
        if isinstance(message, messages.Ack):
            acks.append(message.through)
            assert message.through == record.acked_through
    assert acks == [1, 3, 4]
    assert hello.journal_id == again.journal_id
    assert hello.instance_id != again.instance_id
    assert first.host_id == second.host_id


def test_the_session_s_slots_are_slots() -> None:
    (schedules,) = said(ScheduleSet, "server")
    entry = codec.decode_entry(schedules.entries[0])
    timetable = Timetable(entry.timing)
    fires, answers = said(ScheduleFire, "agent"), said(ScheduleFired, "server")
    host_id = said(Welcome, "server")[0].host_id
    for fire, answer in zip(fires, answers, strict=True):
        assert timetable.holds(fire.scheduled_at)
        assert (answer.schedule_id, answer.revision, answer.scheduled_at) == (
            fire.schedule_id,
            fire.revision,
            fire.scheduled_at,
        )
        assert answer.job_id == slot_job_id(fire.schedule_id, host_id, fire.scheduled_at)
    (decided,) = said(SlotDecided, "agent")
    assert decided.into == fires[1].scheduled_at
    assert timetable.count(fires[0].scheduled_at, decided.last) == decided.count == fires[1].stands_for - 1
    assert timetable.first_after(fires[0].scheduled_at) == decided.first
    assert timetable.last_through(decided.last) == decided.last
    (order,) = said(CommandRun, "server")
    (cancel,) = said(CommandCancel, "server")
    assert (order.job_id, cancel.job_id) == (answers[0].job_id, answers[1].job_id)
    for path in order.spec.paths:
        text_to_path(path)
    zone = next(row for row in rows(section("Job ids")) if row[0] == "slot")[1]
    assert zone == f"`{slot_text(fires[0].scheduled_at)}`"


def test_the_job_id_computes() -> None:
    told = {row[0]: row[1].strip("`") for row in rows(section("Job ids"))}
    namespace = uuid.UUID(re.search(r"namespace: `([0-9a-f-]+)`", section("Job ids"))[1])  # type: ignore[index]  # it is there
    assert namespace == JOB_NAMESPACE
    assert told["name"] == f"{told['schedule id']};{told['host id']};{told['slot']}"
    assert str(uuid.uuid5(namespace, told["name"])) == told["job id"]
    slot = codec.from_agent.decode(f'{{"type":"heartbeat","clock":"{told["slot"]}"}}').clock
    assert slot_job_id(told["schedule id"], told["host id"], slot) == told["job id"]
    for number, name in enumerate(("first further attempt", "second further attempt"), start=1):
        assert told[name] == attempt_job_id(told["job id"], number)
        assert told[name] == str(uuid.uuid5(uuid.UUID(told["job id"]), str(number)))


def test_path_text() -> None:
    paths = ["/srv/café".encode(), b"/srv/caf\xe9", b"/srv/back\\slash"]
    table = rows(section("Path text"))
    assert [text_to_path(row[1].strip("`")) for row in table] == paths
    assert [json.loads(row[2].strip("`")) for row in table] == [row[1].strip("`") for row in table]
