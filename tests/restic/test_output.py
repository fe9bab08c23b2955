"""Lines of all versions, real and made up; none raises."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from restic_manager.domain.model import Failure, Outcome, Progress, Status
from restic_manager.restic.output import (
    MAX_ERROR_LINE,
    MAX_ERROR_LINES,
    MAX_LINE,
    Heard,
    Initialized,
    ItemError,
    LastWord,
    Line,
    Report,
    Text,
    parse_line,
    size_text,
)
from tests.restic.captured import VERSIONS, said


def plain() -> Heard:
    return Heard(lambda text: text)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_backup(version: str) -> None:
    heard, log = said(version, "backup").heard()
    assert heard.report is not None
    assert heard.report.snapshot_id is not None
    assert len(heard.report.snapshot_id) == (8 if version == "0.14.0" else 64)
    stats = heard.report.stats
    assert (stats.files_new, stats.total_files_processed, stats.total_bytes_processed) == (2, 2, 2_000_003)
    assert stats.data_added > 2_000_000
    assert stats.total_duration > 0
    assert bool(stats.data_added_packed) == (version != "0.14.0")
    assert log[-1].startswith(
        f"snapshot {heard.report.snapshot_id[:8]} saved: 2 new, 0 changed, 0 unmodified files; 1.9 MiB"
    )
    assert heard.error_lines == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_init(version: str) -> None:
    heard, log = said(version, "init").heard()
    if version == "0.14.0":
        assert heard.initialized is None
        assert log[0].startswith("created restic repository ")
    else:
        assert heard.initialized is not None
        assert log == [f"created repository {heard.initialized[:10]}"]


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("0.14.0", "error: read /proc/self/clear_refs: Invalid argument"),
        ("0.18.0", "error: failed to save /proc/self/clear_refs: read /proc/self/clear_refs: invalid argument"),
        ("0.19.1", "error: failed to save /proc/self/clear_refs: read /proc/self/clear_refs: invalid argument"),
    ],
)
def test_a_real_unreadable_file(version: str, text: str) -> None:
    heard, log = said(version, "unreadable").heard()
    assert text in log
    assert heard.item_errors == 1
    assert heard.error_lines == (text, "Warning: at least one source file could not be read")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_name_that_is_not_utf8_and_colours_the_terminal(version: str) -> None:
    heard, log = said(version, "not_utf8").heard()
    assert "/srv/gone-caf\\xe9\\x1b[31m does not exist, skipping" in log
    assert heard.skipped == ["/srv/gone-caf\\xe9\\x1b[31m"]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_restic_writes_for_a_terminal_is_left_out(version: str) -> None:
    _, log = said(version, "stopped").heard()
    assert any(line.startswith("signal ") and line.rstrip().endswith("received, cleaning up") for line in log)
    assert not any("\\x" in line for line in log)


FULL = Progress(percent_done=1.0)
LINES: list[tuple[bytes, Line]] = [
    (b"", None),
    (b"\r", None),
    (b"plain", Text("plain")),
    (b"caf\xe9 \xff", Text("caf\\xe9 \\xff")),
    (b"\x1b[2Ksignal", Text("signal")),
    (b"red \x1b[31m\x07\x00", Text("red \\x1b[31m\\x07\\x00")),
    (b"tab\there", Text("tab\there")),
    ("ü \x85 \u2028".encode(), Text("ü \\x85 \u2028")),
    (b"{not json", Text("{not json")),
    (b'{"message_type":"status"', Text('{"message_type":"status"')),
    (b'{"message_type":"status"}', Progress()),
    (b'{"message_type":"verbose_status","x":1}', None),
    (b'{"message_type":"something_new","x":1}', None),
    (b'{"message_type":7}', Text('{"message_type":7}')),
    (b'{"num_errors":1}', Text('{"num_errors":1}')),
    (b"{}", Text("{}")),
    (b'{"message_type":"initialized","id":"ab"}', Initialized("ab")),
    (b'{"message_type":"exit_error","code":1,"message":"Fatal: a\\nb\\n\\n"}', LastWord(("Fatal: a", "b"))),
    (b'{"message_type":"exit_error"}', LastWord(())),
    (
        (
            b'{"message_type":"status","percent_done":0.25,"total_files":4,"files_done":1,"total_bytes":8,"bytes_done":2,'
            b'"seconds_elapsed":3,"seconds_remaining":9,"error_count":1,"current_files":["/a","/b"]}'
        ),
        Progress(
            percent_done=0.25, files_total=4, files_done=1, bytes_total=8, bytes_done=2, seconds_elapsed=3,
            seconds_remaining=9, errors=1, current=("/a", "/b"),
        ),
    ),
    # 0.14 lets the rest overflow, and can be past the end
    (b'{"message_type":"status","percent_done":1.5,"seconds_remaining":18446744073709551615}', FULL),
    (b'{"message_type":"status","seconds_remaining":9223372036854775808,"files_done":-1}', Progress()),
    (b'{"message_type":"status","percent_done":"x","total_files":1e999,"current_files":"x"}', None),
    (b'{"message_type":"status","percent_done":true,"total_files":[],"current_files":"x"}', Progress()),
    (b'{"message_type":"error","error":{"message":"boom"},"item":"/x"}', ItemError("/x: boom")),
    (b'{"message_type":"error","error":{"message":"open /x: boom"},"item":"/x"}', ItemError("open /x: boom")),
    (
        b'{"message_type":"error","error":{"Op":"open","Path":"/x","Err":13},"during":"archival","item":"/x"}',
        ItemError("open /x: Permission denied"),
    ),
    (b'{"message_type":"error","error":{"Op":"open","Path":"/x","Err":{}},"item":"/x"}', ItemError("open /x")),
    (b'{"message_type":"error","error":{},"during":"scan","item":"/x"}', ItemError("/x: unknown error")),
    (b'{"message_type":"error","error":null}', ItemError("unknown error")),
    (b'{"message_type":"error","error":"text","item":null}', ItemError("text")),
    (b'{"message_type":"error","error":{"message":"a\\u001b[2Jb"},"item":""}', ItemError("a\\x1b[2Jb")),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "line"), LINES, ids=[repr(raw[:40]) for raw, _ in LINES])
def test_lines(raw: bytes, line: Line) -> None:
    if b"1e999" in raw:
        assert isinstance(parse_line(raw), Text | Progress)
    else:
        assert parse_line(raw) == line


def test_a_summary_with_nonsense_in_it() -> None:
    line = parse_line(
        b'{"message_type":"summary","files_new":-3,"data_added":99999999999999999999,"total_duration":-1,'
        b'"snapshot_id":"../../etc","dirs_new":"x"}'
    )
    assert isinstance(line, Report)
    assert line.snapshot_id is None
    assert line.stats.files_new == 0
    assert line.stats.data_added == 2**53
    assert line.stats.total_duration == 0


def test_nesting_that_no_parser_survives_is_text() -> None:
    raw = b'{"message_type":"status","x":' + b"[" * 100_000
    assert isinstance(parse_line(raw), Text)
    assert isinstance(parse_line(b'{"message_type":"status","x":' + b"[" * 5000 + b"]" * 5000 + b"}"), Text | Progress)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["percent_done", "total_files", "seconds_remaining", "current_files", "error", "item", "message", "id",
     "snapshot_id", "files_new", "total_duration", "code", "error_count", "Op", "Path", "Err"]
)  # fmt: skip
messages = st.builds(
    lambda kind, rest: json.dumps({"message_type": kind, **rest}).encode("utf-8", "surrogatepass"),
    st.sampled_from(["status", "summary", "error", "exit_error", "initialized", "new"]),
    st.dictionaries(fields, json_values | st.dictionaries(fields, json_values)),
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the parser's
@given(st.lists(st.binary(max_size=60) | messages, max_size=20), st.sampled_from(["stdout", "stderr"]))
@example([b'{"message_type":"status","percent_done":NaN}'], "stdout")
@example([b'{"message_type":"error","error":"\\ud800"}'], "stderr")
def test_no_line_raises_and_everything_kept_can_travel(raw: list[bytes], stream: str) -> None:
    heard = plain()
    log, progress = heard.take("stdout" if stream == "stdout" else "stderr", raw)
    kept = msgspec.json.encode((log, heard.error_lines))
    assert msgspec.json.decode(kept, type=tuple[list[str], list[str]])[0] == log
    if progress is not None:
        assert msgspec.json.decode(msgspec.json.encode(progress), type=Progress) == progress
    outcome = Outcome(
        status=Status.FAILED,
        snapshot_id=heard.report.snapshot_id if heard.report else None,
        stats=heard.report.stats if heard.report else None,
        error=Failure(code="x", message="x", lines=heard.error_lines),
    )
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
    assert all("\n" not in line and "\x1b" not in line and "\0" not in line for line in log)


def test_the_first_error_lines_are_kept_and_the_last_ones() -> None:
    heard = plain()
    heard.take("stderr", [b"line %d" % number for number in range(100)])
    assert heard.error_lines == tuple(f"line {number}" for number in (*range(7), 97, 98, 99))
    assert len(heard.error_lines) == MAX_ERROR_LINES


def test_what_is_told_twice_is_kept_once() -> None:
    heard = plain()
    log, _ = heard.take("stderr", [b"same", b"same", b"other"])
    assert log == ["same", "same", "other"]
    assert heard.error_lines == ("same", "other")


def test_long_lines_are_cut_and_say_so() -> None:
    heard = plain()
    log, _ = heard.take("stderr", [b"y" * 20_000])
    assert len(log[0]) == MAX_LINE
    assert log[0].endswith("… [line cut, 20000 characters]")
    assert len(heard.error_lines[0]) == MAX_ERROR_LINE


def test_secrets_are_taken_out_of_everything_that_leaves() -> None:
    heard = Heard(lambda text: text.replace("geheim", "***"))
    log, progress = heard.take(
        "stderr",
        [
            b"text geheim",
            b"y" * (MAX_LINE - 40) + b"geheim" + b"y" * 100,
            b'{"message_type":"error","error":{"message":"geheim"},"item":"/geheim"}',
            b'{"message_type":"exit_error","message":"geheim\\ngeheim"}',
            b'{"message_type":"status","current_files":["/geheim"]}',
            b"{geheim",
        ],
    )
    assert progress is not None
    assert progress.current == ("/***",)
    assert not any("gehe" in line for line in (*log, *heard.error_lines, *heard.texts, *heard.last_word))


def test_sizes() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 1536, 5 << 30, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB", "3.0 TiB",
    ]  # fmt: skip


def test_where_in_its_code_restic_was_is_for_the_log_alone() -> None:
    heard = Heard(lambda text: text)
    said = [b"failed to remove one or more snapshots", b"main.init", b"\tgithub.com/restic/restic/cmd_forget.go:67"]
    log, _ = heard.take("stderr", [*said, b"runtime.goexit", b"the last word"])
    assert len(log) == 5
    assert heard.error_lines == ("failed to remove one or more snapshots", "the last word")
