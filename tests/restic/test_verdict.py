"""The verdict: on what the real binaries said, and on every other way to end."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.model import Kind, Outcome, Status
from restic_manager.restic.answers.reader import Finding
from restic_manager.restic.failures import CLASSES, REMEDIES
from restic_manager.restic.output import Heard
from restic_manager.restic.verdict import Ended, Stop, failure, judge, judge_found, missing_text, needs_lookup
from restic_manager.restic.version import Version
from tests.restic.captured import VERSIONS, said

OLD, NEW = Version(0, 14), Version(0, 19, 1)
SUMMARY = b'{"message_type":"summary","files_new":1,"snapshot_id":"abcdef12"}'


def heard(*lines: bytes) -> Heard:
    found = Heard(lambda text: text)
    found.take("stderr", lines)
    return found


def ended(code: int | None = 0, **facts: object) -> Ended:
    start = Ended(Kind.BACKUP, NEW, code, None, None)
    return dataclasses.replace(start, **facts)  # type: ignore[arg-type]


# -- on real output ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("situation", "code"),
    [
        ("repo_missing", "repo_missing"),
        ("rest_repo_missing", "repo_missing"),
        ("wrong_password", "wrong_password"),
        ("keys_gone", "wrong_password"),
        ("locked", "locked"),
        ("all_missing", "source_missing"),
        ("no_space", "no_space"),
        ("unauthorized", "access_denied"),
        ("refused", "network"),
        ("exclude_file_missing", "failed"),
    ],
)
def test_real_failures(version: str, situation: str, code: str) -> None:
    run = said(version, situation)
    outcome = run.outcome()
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == code
    assert REMEDIES[code] in outcome.error.message
    assert outcome.exit_code == run.code
    assert outcome.snapshot_id is None
    assert outcome.error.lines
    assert run.needs_lookup() == (code in {"no_space", "failed"})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_repository_that_is_not_there_is_never_guessed(version: str) -> None:
    """An init follows on it: a refused connection or login must not look like it, though 0.14 asks the same then."""
    for situation in ("refused", "unauthorized", "wrong_password", "locked", "exclude_file_missing"):
        error = said(version, situation).outcome().error
        assert error is not None
        assert error.code != "repo_missing"


@pytest.mark.parametrize("version", VERSIONS)
def test_real_successes(version: str) -> None:
    outcome = said(version, "backup").outcome()
    assert outcome.status is Status.SUCCEEDED
    assert outcome.error is None
    assert outcome.snapshot_id is not None
    assert outcome.stats is not None
    assert said(version, "init").outcome(Kind.INIT) == Outcome(status=Status.SUCCEEDED, exit_code=0)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_repository_that_exists_already(version: str) -> None:
    error = said(version, "repo_exists").outcome(Kind.INIT).error
    assert error is not None
    assert error.code == "repo_exists"


@pytest.mark.parametrize("version", VERSIONS)
def test_real_warnings(version: str) -> None:
    outcome = said(version, "unreadable").outcome()
    assert outcome.status is Status.WARNING
    assert outcome.exit_code == 3
    assert outcome.snapshot_id is not None
    assert outcome.error is not None
    assert outcome.error.code == "source_unreadable"
    assert outcome.error.message.startswith("1 error while reading.")
    assert "clear_refs" in outcome.error.lines[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("missing", [(), ("/srv/gone",)], ids=["gone-after-we-looked", "seen-by-us"])
def test_a_missing_source_is_a_warning_on_every_version(version: str, missing: tuple[str, ...]) -> None:
    run = said(version, "one_missing")
    assert run.code == (3 if version == "0.19.1" else 0)
    outcome = run.outcome(missing=missing)
    assert outcome.status is Status.WARNING
    assert outcome.snapshot_id is not None
    assert outcome.error is not None
    assert outcome.error.code == "source_missing"
    assert outcome.error.message.startswith("Not there: /srv/gone.")


@pytest.mark.parametrize("version", VERSIONS)
def test_cancelled_comes_from_our_flag_only(version: str) -> None:
    run = said(version, "stopped")
    cancelled = run.outcome(stopped=Stop.CANCELLED)
    assert cancelled.status is Status.CANCELLED
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    assert cancelled.exit_code == run.code
    limited = run.outcome(stopped=Stop.TIME_LIMIT)
    assert limited.status is Status.FAILED
    assert limited.error is not None
    assert limited.error.code == "time_limit"
    alone = run.outcome()
    assert alone.status is Status.FAILED
    assert alone.error is not None
    assert alone.error.code == "failed"


# -- on every other way to end ----------------------------------------------------------------------------------------


def test_done_is_not_cancelled() -> None:
    for code, status in ((0, Status.SUCCEEDED), (3, Status.WARNING)):
        outcome = judge(ended(code, stopped=Stop.CANCELLED), heard(SUMMARY))
        assert outcome.status is status
        assert outcome.snapshot_id == "abcdef12"


def test_cancelled_with_a_snapshot_stays_cancelled() -> None:
    for outcome in (
        judge(ended(130, stopped=Stop.CANCELLED, recovered="abcdef12"), heard()),
        judge(ended(None, signal=9, stopped=Stop.CANCELLED), heard(SUMMARY)),
    ):
        assert outcome.status is Status.CANCELLED
        assert outcome.snapshot_id == "abcdef12"


def test_a_message_is_one_line_whatever_a_path_holds() -> None:
    assert missing_text(["/a\nb", "/c"]) == "Not there: /a\\nb, /c."
    assert "\n" not in failure("path_missing", "Not in this snapshot: /a\nb.").message


def test_exit_0_without_a_summary_is_a_failure() -> None:
    run = ended(0)
    assert needs_lookup(run, heard())
    outcome = judge(run, heard(b'{"message_type":"status","percent_done":1}'))
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "no_summary"


REFUSED = b'Stat(<config/>) returned error, retrying after 1s: Head "http://h/": dial tcp: connect: connection refused'
NEVER = b'{"message_type":"exit_error","code":1,"message":"Fatal: unable to open config file: context canceled"}'


@pytest.mark.parametrize(
    ("lines", "stopped", "code"),
    [
        ((REFUSED, NEVER), Stop.TIME_LIMIT, "network"),
        ((REFUSED, NEVER), Stop.CANCELLED, "cancelled"),
        ((NEVER,), Stop.TIME_LIMIT, "time_limit"),
        # It had got over that trouble: what came later was only long.
        ((REFUSED, b"Fatal: context canceled"), Stop.TIME_LIMIT, "time_limit"),
    ],
)
@pytest.mark.parametrize("kind", [Kind.BACKUP, Kind.CHECK])
def test_a_time_that_was_over_before_the_repository_was_reached(
    kind: Kind, lines: tuple[bytes, ...], stopped: Stop, code: str
) -> None:
    facts = ended(1, kind=kind, stopped=stopped)
    outcome = judge(facts, heard(*lines)) if kind is Kind.BACKUP else judge_found(facts, heard(*lines), Finding())
    assert outcome.error is not None
    assert outcome.error.code == code
    assert ("stopped at its time limit, while" in outcome.error.message) == (code == "network")


@pytest.mark.parametrize("facts", [{"signal": 9}, {"stopped": Stop.TIME_LIMIT, "signal": 9}, {"stopped": Stop.STALLED}])
def test_a_snapshot_that_is_there_counts(facts: dict[str, object]) -> None:
    run = ended(None if "signal" in facts else 1, recovered="abcdef12", **facts)
    assert judge(run, heard()).status is Status.SUCCEEDED
    assert judge(run, heard()).snapshot_id == "abcdef12"
    partly = judge(dataclasses.replace(run, missing=("/gone",)), heard())
    assert partly.status is Status.WARNING
    unread = judge(run, heard(b'{"message_type":"error","error":{"message":"x"},"item":"/y"}'))
    assert unread.status is Status.WARNING


def test_killed_by_someone_else() -> None:
    run = ended(None, signal=9, lookup_problem="no route.")
    assert needs_lookup(run, heard())
    outcome = judge(run, heard(b"fatal error: runtime: out of memory"))
    assert outcome.status is Status.FAILED
    assert outcome.exit_code is None
    assert outcome.error is not None
    assert outcome.error.code == "killed"
    assert "signal 9 (SIGKILL)" in outcome.error.message
    assert "no route." in outcome.error.message
    assert outcome.error.lines == ("fatal error: runtime: out of memory",)


def test_an_end_that_never_came() -> None:
    outcome = judge(ended(None, stopped=Stop.CANCELLED), heard())
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "unkillable"


@pytest.mark.parametrize("code", [1, 2, 4, 87, 130, 255])
def test_an_unknown_code_is_a_failure_even_with_a_summary(code: int) -> None:
    outcome = judge(ended(code), heard(SUMMARY, b"something else"))
    assert outcome.status is Status.FAILED
    assert outcome.snapshot_id == "abcdef12"
    assert outcome.error is not None
    assert outcome.error.code == "failed"
    assert f"exit code {code}" in outcome.error.message


def test_codes_are_believed_only_where_they_mean_that() -> None:
    """From 0.17 on the codes tell; then the same words in some file's name, with code 1, prove nothing."""
    words = b"unable to open config file: stat /x/config: no such file or directory"
    new = judge(ended(1), heard(words)).error
    old = judge(ended(1, version=OLD), heard(words)).error
    assert new is not None
    assert old is not None
    assert (new.code, old.code) == ("failed", "repo_missing")
    between = judge(ended(1, version=Version(0, 17, 0)), heard(b"Fatal: wrong password or no key found")).error
    assert between is not None
    assert between.code == "wrong_password"


def test_file_errors_do_not_name_the_class() -> None:
    run = heard(
        b'{"message_type":"error","error":{"message":"open /x: permission denied"},"item":"/x"}',
        b'{"message_type":"exit_error","code":1,"message":"Fatal: Save: dial tcp: i/o timeout"}',
    )
    error = judge(ended(1), run).error
    assert error is not None
    assert error.code == "network"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Fatal: unable to open repository at /srv: mkdir /srv: permission denied", "permission"),
        ("Fatal: config or key 5e1f is damaged: ciphertext verification failed", "repo_damaged"),
        ("Fatal: unsupported repository version 3", "repo_too_new"),
        ("Fatal: client.BucketExists: Access Denied.", "access_denied"),
        ("Fatal: unable to open config file: Stat: 503 Service Unavailable", "network"),
        ("subprocess ssh: ssh: connect to host h port 22: Connection refused", "network"),
        ("subprocess ssh: u@h: Permission denied (publickey).", "access_denied"),
        ("Fatal: dial tcp: lookup h: no such host", "network"),
        ("Fatal: x509: certificate signed by unknown authority", "network"),
        ("Save failed: 413 Request Entity Too Large", "no_space"),
        ("Fatal: something nobody has seen", "failed"),
    ],
)
def test_other_words(text: str, code: str) -> None:
    error = judge(ended(1), heard(text.encode())).error
    assert error is not None
    assert error.code == code


def test_every_code_has_a_remedy_and_is_unique() -> None:
    codes = [entry.code for entry in CLASSES]
    assert len(set(codes)) == len(codes)
    assert set(codes) <= set(REMEDIES)
    assert {stop.value for stop in Stop} <= set(REMEDIES)
    assert all(remedy.endswith(".") for remedy in REMEDIES.values())


@given(
    code=st.none() | st.integers(0, 255),
    number=st.none() | st.integers(1, 64),
    stopped=st.none() | st.sampled_from(Stop),
    kind=st.sampled_from(Kind),
    recovered=st.none() | st.just("abcdef12"),
    missing=st.lists(st.sampled_from(["/a", "/b"]), unique=True).map(tuple),
    lines=st.lists(st.sampled_from([SUMMARY, b"text", b"Fatal: x", b'{"message_type":"exit_error","message":"m"}'])),
    version=st.sampled_from([OLD, Version(0, 18), NEW]),
)
def test_every_end_has_one_outcome_that_can_travel(
    *,
    code: int | None,
    number: int | None,
    stopped: Stop | None,
    kind: Kind,
    recovered: str | None,
    missing: tuple[str, ...],
    lines: list[bytes],
    version: Version,
) -> None:
    end = Ended(kind, version, code if number is None else None, number, stopped, missing, recovered)
    outcome = judge(end, heard(*lines))
    assert outcome.status.terminal
    assert (outcome.error is None) == (outcome.status is Status.SUCCEEDED)
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
    if outcome.status is Status.CANCELLED:
        assert stopped is Stop.CANCELLED
    if outcome.status is Status.SUCCEEDED and kind is Kind.BACKUP:
        assert not missing
        assert recovered or SUMMARY in lines
