"""The codec: whatever comes, out comes a message of the direction or a WireError, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restic_manager.domain.model import Progress
from restic_manager.protocol import codec
from restic_manager.protocol.codec import Decoder, WireError
from restic_manager.protocol.messages import (
    DURABLE_TYPES,
    MAX_LOG_TEXT,
    MAX_MESSAGE,
    Error,
    Heartbeat,
    JobFinished,
    JobLog,
    JobProgress,
    ScheduleSet,
)
from tests.protocol import shapes
from tests.protocol.samples import AT, ENTRY, SAMPLES
from tests.protocol.shapes import DECODERS, comparable, result

STARTED = '{"type":"job.started","seq":7,"job_id":"j","started_at":"2026-01-01T00:00:00Z"'
ERROR = '{"type":"error","code":"c","message":"'
FIRE = codec.encode(SAMPLES["schedule.fire"])
JOIN = '{"type":"join","protocol":1,"agent_version":"1","credential_sha256":"'
BEAT = '{"type":"heartbeat","clock":"2026-01-01T00:00:00Z"'


def refused(frame: str, decoder: Decoder = codec.from_agent) -> WireError:
    with pytest.raises(WireError) as caught:
        decoder.decode(frame)
    return caught.value


def accepted(frame: str, decoder: Decoder = codec.from_agent) -> Any:
    return decoder.decode(frame)


class TestNoMessageAtAll:
    """Fatal: the peer does not speak our language."""

    @pytest.mark.parametrize(
        "frame",
        [
            "",
            " ",
            "null",
            "1",
            '"hello"',
            "[]",
            '[{"type":"goodbye","reason":"x"}]',
            "{}",
            '{"type":null}',
            '{"type":5}',
            '{"type":["hello"]}',
            '{"Type":"goodbye","reason":"x"}',
            '{"type":"goodbye","reason":"x"',
            '{"type":"goodbye","reason":"x"} x',
            '{"type":"goodbye","reason":"x"}{"type":"goodbye","reason":"x"}',
            '{"type":"goodbye","reason":"x",}',
            "{'type':'goodbye','reason':'x'}",
            '\ufeff{"type":"goodbye","reason":"x"}',
            '{"type":"goodbye","reason":NaN}',
            '{"type":"goodbye","reason":Infinity}',
            '{"type":"goodbye","reason":-Infinity}',
            '{"type":"goodbye","reason":"x","n":NaN}',
            '{"type":"goodbye","reason":"a raw \0 NUL"}',
            '{"type":"goodbye","reason":"x","ignored":"a raw \0 NUL"}',
            '{"type":"goodbye","reason":"a raw \n newline"}',
            '{"type":"goodbye","reason":"\\ud800"}',
            '{"type":"goodbye","reason":"\\udc00\\ud800"}',
            '{"type":"goodbye","reason":"x","ignored":"\\ud800"}',
            '{"type":"goodbye","reason":"half a pair: \ud800"}',
            '{"type":"goodbye","reason":"\\q"}',
            '{"type":"goodbye","reason":"\\u12"}',
        ],
    )
    def test_is_fatal(self, frame: str) -> None:
        error = refused(frame)
        assert (error.code, error.fatal, error.durable, error.seq) == ("not_json", True, False, None)

    @pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
    def test_the_frame_limit_is_met_and_not_passed(self, decoder: Decoder) -> None:
        frame = '{"type":"?","pad":"' + "é" * MAX_MESSAGE
        assert refused(frame[: MAX_MESSAGE - 2] + '"}', decoder).code == "unknown_type"
        error = refused(frame[: MAX_MESSAGE - 1] + '"}', decoder)
        assert (error.code, error.fatal, error.durable) == ("too_large", True, False)

    def test_a_good_frame_of_exactly_the_limit_is_a_message(self) -> None:
        frame = BEAT + ',"pad":"' + "x" * (MAX_MESSAGE - len(BEAT) - len(',"pad":"') - 2) + '"}'
        assert len(frame) == MAX_MESSAGE
        assert isinstance(accepted(frame), Heartbeat)
        assert refused(frame.replace('x"}', 'xx"}')).code == "too_large"

    def test_the_message_is_short_whatever_was_sent(self) -> None:
        assert len(refused('{"type":"' + "x" * 100_000 + '"}').message) < 200
        assert len(refused('{"type":"goodbye","reason":' + "[" * 100_000 + "]" * 100_000 + "}").message) <= 600


class TestNesting:
    @pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}")])
    @pytest.mark.parametrize("levels", [998, 1_000, 20_000])
    @pytest.mark.parametrize("where", ["ignored", "reason", "type"])
    def test_deep_is_one_error(self, where: str, levels: int, open_: str, close: str) -> None:
        deep = open_ * levels + '"\\u0000"' + close * levels
        members = {"type": '"goodbye"', "reason": '"x"'} | {where: deep}
        refused("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}")

    @pytest.mark.parametrize("levels", [1, 100, 300, 400, 600, 900])
    def test_a_nul_is_found_however_deep(self, levels: int) -> None:
        error = refused(STARTED + ',"x":' + "[" * levels + '"\\u0000"' + "]" * levels + "}")
        assert (error.code, error.type, error.seq, error.durable) == ("invalid", "job.started", 7, True)

    def test_a_hundred_levels_are_fine(self) -> None:
        assert isinstance(accepted(BEAT + ',"x":' + "[" * 100 + "]" * 100 + "}"), Heartbeat)

    def test_deep_entries(self) -> None:
        deep = "[" * 20_000 + "]" * 20_000
        error = refused(f'{{"type":"schedule.set","epoch":"e","version":1,"entries":[{deep}]}}', codec.from_server)
        assert error.code == "not_json"
        with pytest.raises(WireError):
            codec.decode_entry(msgspec.Raw(('{"x":' * 20_000 + "1" + "}" * 20_000).encode()))


class TestNul:
    @pytest.mark.parametrize(
        "text", ["\\u0000", "a\\u0000b", "\\\\\\u0000", "\\\\\\\\\\u0000", '\\"\\u0000', "\\n\\u0000"]
    )
    def test_a_nul_is_refused(self, text: str) -> None:
        assert "\0" in json.loads(f'"{text}"')
        error = refused(ERROR + text + '"}')
        assert (error.code, error.type, error.fatal) == ("invalid", "error", False)

    @pytest.mark.parametrize("text", ["\\\\u0000", "\\\\\\\\u0000", "u0000", "\\u0001\\\\u0000", "\\\\\\\\\\\\u0000"])
    def test_the_text_that_looks_like_one_is_not(self, text: str) -> None:
        said = json.loads(f'"{text}"')
        assert "\0" not in said
        assert accepted(ERROR + text + '"}').message == said

    def test_in_a_key_and_in_what_is_ignored(self) -> None:
        assert refused(BEAT + ',"k\\u0000":1}').code == "invalid"
        assert refused(BEAT + ',"x":[{"y":"\\u0000"}]}').code == "invalid"

    @pytest.mark.parametrize("value", ["1e999", "-1e999", "9" * 30, "9" * 6_000])
    def test_beside_numbers_no_decoder_takes(self, value: str) -> None:
        assert refused(STARTED + f',"x":[{value},"\\u0000"]}}').durable

    def test_a_run_of_backslashes_takes_no_time(self) -> None:
        frame = ERROR + "\\" * (MAX_MESSAGE - 200) + '\\\\u0000"}'
        refused(frame)  # a quadratic search would run into the test's time limit

    @settings(deadline=None)
    @given(st.text(st.sampled_from('\\u0"/n\0'), max_size=12))
    def test_agrees_with_a_parser(self, text: str) -> None:
        frame = json.dumps({"type": "error", "code": "c", "message": text})
        if "\0" in text:
            assert refused(frame).code == "invalid"
        else:
            assert accepted(frame).message == text


class TestBadFields:
    """The session goes on, and a durable report can be set aside by its sequence."""

    @pytest.mark.parametrize(
        "frame",
        [
            '{"type":"job.started","seq":7}',
            '{"seq":7,"type":"job.started"}',
            STARTED.replace('"j"', "null") + "}",
            STARTED.replace('"j"', '""') + "}",
            STARTED.replace('"j"', '"' + "x" * 65 + '"') + "}",
            STARTED.replace("2026-01-01T00:00:00Z", "2026-01-01T00:00:00") + "}",
            STARTED.replace("2026-01-01T00:00:00Z", "yesterday") + "}",
            STARTED + ',"scheduled_at":12}',
            '{"type":"job.log","seq":7}',
            '{"type":"job.finished","seq":7,"outcome":{"status":"great"}}',
            '{"type":"slot.decided","seq":7,"from":1}',
        ],
    )
    def test_a_durable_report_keeps_its_sequence(self, frame: str) -> None:
        error = refused(frame)
        assert (error.code, error.fatal, error.durable, error.seq) == ("invalid", False, True, 7)
        assert error.type in DURABLE_TYPES

    @pytest.mark.parametrize("seq", ["true", "1.0", "1.5", '"7"', "null", "[]", "0", "-1", str(2**53 + 1), "9" * 6_000])
    def test_a_sequence_that_is_none_has_no_turn(self, seq: str) -> None:
        error = refused(f'{{"type":"job.started","seq":{seq},"job_id":"j","started_at":"2026-01-01T00:00:00Z"}}')
        assert (error.code, error.type, error.seq) == ("invalid", "job.started", None)
        assert not error.durable
        assert not error.fatal

    def test_the_highest_sequence(self) -> None:
        assert accepted(STARTED.replace(":7,", f":{2**53},") + "}").seq == 2**53
        assert refused(f'{{"type":"job.started","seq":{2**53}}}').seq == 2**53

    def test_no_sequence(self) -> None:
        error = refused('{"type":"job.started","job_id":"j","started_at":"2026-01-01T00:00:00Z"}')
        assert (error.code, error.durable) == ("invalid", False)

    @pytest.mark.parametrize(
        ("decoder", "frame"),
        [
            ("agent", '{"type":"hello"}'),
            ("agent", '{"type":"heartbeat","clock":"2026-01-01"}'),
            ("agent", '{"type":"goodbye","reason":null}'),
            ("agent", '{"type":"goodbye","reason":"' + "x" * 257 + '"}'),
            ("agent", '{"type":"schedule.ack","epoch":"e","version":-1}'),
            ("agent", '{"type":"schedule.ack","epoch":"e","version":1.5}'),
            ("agent", '{"type":"schedule.ack","epoch":"e","version":true}'),
            ("agent", f'{{"type":"schedule.ack","epoch":"e","version":{2**53 + 1}}}'),
            ("agent", f'{{"type":"schedule.ack","epoch":"e","version":{2**63}}}'),
            ("agent", f'{{"type":"schedule.ack","epoch":"e","version":{"9" * 5000}}}'),
            ("agent", '{"type":"schedule.ack","epoch":"e","version":1e999}'),
            ("agent", '{"type":"job.progress","job_id":"j","progress":{"percent_done":1e999}}'),
            ("agent", '{"type":"job.progress","job_id":"j","progress":{"percent_done":1.01}}'),
            ("agent", '{"type":"job.progress","job_id":"j","progress":{"percent_done":-0.1}}'),
            ("agent", '{"type":"job.progress","job_id":"j","progress":{"files_done":1e999}}'),
            ("agent", '{"type":"job.progress","job_id":"j","progress":[]}'),
            ("agent", FIRE.replace("tick", "tock")),
            ("agent", FIRE.replace('"revision":1', '"revision":0')),
            ("agent", FIRE.replace('"tick"', '"tick","stands_for":0')),
            ("server", '{"type":"welcome"}'),
            ("server", '{"type":"ack","through":null}'),
            ("server", '{"type":"schedule.set","epoch":"e","version":1,"parts":0}'),
            ("server", '{"type":"schedule.set","epoch":"e","version":1,"entries":{}}'),
            ("server", '{"type":"command.run","job_id":"j","spec":{"kind":"prune"},"repo":{},"restic_host":"h"}'),
            ("server", '{"type":"command.cancel","job_id":"j","status":"done"}'),
            ("join-agent", JOIN + "A" * 64 + '"}'),
            ("join-agent", JOIN + "a" * 63 + '"}'),
            ("join-agent", JOIN + "a" * 64 + '\\n"}'),
            ("join-agent", JOIN.replace(":1", ":0") + "a" * 64 + '"}'),
            ("join-server", '{"type":"joined","host_id":"","host_name":"h"}'),
        ],
    )  # fmt: skip
    def test_is_answered_with_an_error(self, decoder: str, frame: str) -> None:
        error = refused(frame, DECODERS[decoder])
        assert (error.code, error.fatal, error.durable) == ("invalid", False, False)
        assert error.message.startswith(f"{error.type}: ")

    def test_lists_over_their_bounds(self) -> None:
        full = json.loads(codec.encode(SAMPLES["hello.full"]))
        full["capabilities"] = ["c"] * 100
        full["jobs"] = full["jobs"][:1] * 2_000
        assert len(accepted(json.dumps(full)).jobs) == 2_000
        assert refused(json.dumps(full | {"capabilities": ["c"] * 101})).code == "invalid"
        assert refused(json.dumps(full | {"jobs": full["jobs"][:1] * 2_001})).code == "invalid"

    def test_what_is_not_known_is_ignored(self) -> None:
        for name, message in SAMPLES.items():
            if name.startswith("join"):
                continue
            for decoder in (codec.from_agent, codec.from_server):
                frame = codec.encode(message)
                widened = frame[:-1] + ',"of_version_2":{"a":[1e999,null,{"b":"\\\\u0000"}]}}'
                plain, wide = result(frame, decoder), result(widened, decoder)
                if isinstance(plain, WireError):
                    assert plain.code == wide.code == "unknown_type"  # the other direction's
                else:
                    assert comparable(wide) == comparable(plain)


class TestUnknownTypes:
    @pytest.mark.parametrize(
        "type_", ["", "helo", "HELLO", "job.log ", "x" * 1_000, "command.run", "welcome", "join", "ack"]
    )
    def test_are_named_and_harmless(self, type_: str) -> None:
        error = refused(json.dumps({"type": type_, "seq": 3}))
        assert (error.code, error.fatal, error.durable, error.seq) == ("unknown_type", False, False, None)
        assert error.type == type_[:64]

    def test_a_report_said_by_the_server_is_no_report(self) -> None:
        error = refused(STARTED + "}", codec.from_server)
        assert (error.code, error.durable) == ("unknown_type", False)

    def test_each_direction_takes_its_own_messages_only(self) -> None:
        for name, message in SAMPLES.items():
            for speaker, decoder in DECODERS.items():
                if isinstance(message, shapes.members(shapes.DIRECTIONS[speaker])):
                    decoder.decode(codec.encode(message))
                else:
                    assert refused(codec.encode(message), decoder).code == "unknown_type", name

    def test_what_is_answered_can_itself_be_sent(self) -> None:
        error = refused('{"type":"a\\u0000b\\u0000' + "\U0001f4be" * 80 + '"}')
        answer = codec.encode(Error(code=error.code, message=error.message, ref=error.type))
        assert isinstance(codec.from_server.decode(answer), Error)


class TestInstants:
    @pytest.mark.parametrize(
        ("text", "instant"),
        [
            ("2026-03-29T01:30:00Z", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
            ("2026-03-29T01:30:00.5Z", datetime(2026, 3, 29, 1, 30, 0, 500_000, tzinfo=UTC)),
            ("2026-03-29T02:30:00+01:00", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
            ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
            ("1969-12-31T23:00:00-01:00", datetime(1970, 1, 1, tzinfo=UTC)),
            ("9989-12-31T23:59:59.999999Z", datetime(9989, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ],
    )
    def test_are_taken(self, text: str, instant: datetime) -> None:
        assert accepted(json.dumps({"type": "heartbeat", "clock": text})).clock == instant

    @pytest.mark.parametrize(
        "text",
        [
            "2026-03-29T01:30:00",
            "2026-03-29",
            "2026-02-30T00:00:00Z",
            "2026-03-29T24:00:00Z",
            "2026-12-31T23:59:60Z",
            "2026-03-29T01:30:00+24:00",
            "0001-01-01T00:00:00+14:00",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00+00:01",
            "9990-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59-14:00",
            "10000-01-01T00:00:00Z",
            "",
            1_767_225_600,
            1_767_225_600.5,
            True,
            None,
        ],
    )
    def test_are_refused(self, text: object) -> None:
        error = refused(json.dumps({"type": "heartbeat", "clock": text}))
        assert (error.code, error.type, error.fatal) == ("invalid", "heartbeat", False)

    def test_at_any_depth(self) -> None:
        bad = datetime(9999, 12, 31, tzinfo=UTC)
        entry = msgspec.structs.replace(ENTRY, timing=msgspec.structs.replace(ENTRY.timing, anchor=bad))
        with pytest.raises(WireError, match="1970 to 9989"):
            codec.decode_entry(codec.encode_entry(entry))
        hello = json.loads(codec.encode(SAMPLES["hello.full"]))
        hello["jobs"][-1]["scheduled_at"] = "0001-01-01T00:00:00+14:00"
        assert refused(json.dumps(hello)).code == "invalid"
        assert refused(codec.encode(SAMPLES["schedule.fire.full"]).replace("2026-02", "9999-02")).code == "invalid"

    @settings(deadline=None)
    @given(
        st.datetimes(datetime(1970, 1, 2), datetime(9989, 12, 30)),  # noqa: DTZ001 - the zone is added below
        st.integers(-14 * 60, 14 * 60),
    )
    def test_any_offset_is_the_same_instant(self, naive: datetime, minutes: int) -> None:
        instant = naive.replace(tzinfo=UTC)
        sign, size = ("-", -minutes) if minutes < 0 else ("+", minutes)
        local = (naive + timedelta(minutes=minutes)).isoformat() + f"{sign}{size // 60:02}:{size % 60:02}"
        assert accepted(json.dumps({"type": "heartbeat", "clock": local})).clock == instant


class TestEntries:
    def test_one_unusable_entry_does_not_spoil_the_frame(self) -> None:
        good = codec.encode_entry(ENTRY)
        bad = [b"1", b"null", b"[]", b"{}", b'{"schedule_id":7}', b'{"schedule_id":"s2","name":1e999}', b'"x"']
        frame = codec.encode(ScheduleSet(epoch="e", version=1, entries=tuple(map(msgspec.Raw, [*bad, bytes(good)]))))
        entries = accepted(frame, codec.from_server).entries
        for raw in entries[:-1]:
            with pytest.raises(WireError) as caught:
                codec.decode_entry(raw)
            assert not caught.value.fatal
        assert codec.decode_entry(entries[-1]) == ENTRY
        assert [codec.entry_id(raw) for raw in entries] == ["?", "?", "?", "?", "?", "s2", "?", ENTRY.schedule_id]

    def test_an_id_is_cut(self) -> None:
        assert codec.entry_id(msgspec.Raw(b'{"schedule_id":"' + b"x" * 5_000 + b'"}')) == "x" * 64


class TestSizes:
    """The largest values the bounds allow fit a frame, escaped at their worst."""

    def test_a_verdict(self) -> None:
        full = SAMPLES["job.finished.full"]
        assert isinstance(full, JobFinished)
        assert full.outcome.error is not None
        worst = "\x01" * 8_192
        error = msgspec.structs.replace(full.outcome.error, message=worst, lines=(worst,) * 20, code="\x01" * 256)
        frame = codec.encode(msgspec.structs.replace(full, outcome=msgspec.structs.replace(full.outcome, error=error)))
        assert isinstance(accepted(frame), JobFinished)

    def test_progress(self) -> None:
        frame = codec.encode(JobProgress(job_id="j", progress=Progress(current=("\x01" * 8_192,) * 16)))
        assert isinstance(accepted(frame), JobProgress)

    def test_a_log(self) -> None:
        frame = codec.encode(
            JobLog(seq=1, job_id="j", at=AT, stream="stdout", first_line=1, text="\x01" * MAX_LOG_TEXT)
        )
        assert isinstance(accepted(frame), JobLog)
