"""What is a schedule and what is not: each refusal with its column, and agreement with croniter on all else."""

from __future__ import annotations

import re

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.cron import CronError, check_expression, every_seconds, resolve_hash
from restic_manager.domain.cron_fields import UNITS
from restic_manager.domain.cron_text import NICKNAMES, parse
from restic_manager.domain.errors import InputError
from tests.domain.cron_strategies import SETTINGS, expressions

ACCEPTED = [
    "* * * * *",
    "30 2 * * *",
    " 30  2 * *   * ",
    "05 002 * * *",
    "*/15 */2 1-5/2 jan-mar MON",
    "0 0 * * 7",
    "0 0 * * 5-7",
    "0 0 * * 0-7",
    "0 0 * * sun-SAT",
    "0 0 * Jan,3,oct-Dec Mon-fri/2",
    "5/15 * * * *",
    "59/15 * * * *",
    "*/60 */24 */31 */12 */7",
    "0 0 29 2 *",
    "0 0 29 2 */7",
    "0 0 31 1,2 *",
    "H * * * *",
    "h h * * *",
    "H H H H H",
    "H/15 H(1-5) H(1-7)/3 H/6 H(1-5)",
    "0 0 H(1-31) * *",
    "0 0 H(1-29) 2 *",
    "@every 1s",
    "@every 3660d",
    "@every 1h30m",
    "@EVERY 6h",
    "@Daily",
    *NICKNAMES,
]

# (text, 0-based column, a piece of the reason)
REFUSED = [
    ("", None, "empty"),
    ("   ", None, "empty"),
    ("* * * * * ".ljust(257), None, "257 characters"),
    ("1" * 5000 + " * * * *", None, "5008 characters"),
    ("1" * 200 + " * * * *", 0, "runs from 0 to 59"),
    ("*/" + "9" * 200 + " * * * *", 2, "a step of"),
    ("H(0-" + "9" * 200 + ") * * * *", 4, "runs from 0 to 59"),
    ("30 2 * * \u0661", 9, "not ASCII"),
    ("30\u00a02 * * *", 2, "not ASCII"),
    ("30\t2 * * *", 2, "control character"),
    ("30 2 * * *\n", 10, "control character"),
    ("\x00", 0, "control character"),
    ("30 2 * *", 8, "day of week is missing"),
    ("30", 2, "hour is missing"),
    ("0 30 2 * * *", 11, "seconds and years"),
    ("30 2 * * * 2026", 11, "seconds and years"),
    ("0 30 2 * * * 2026", 11, "it has 7 fields"),
    ("60 * * * *", 0, "runs from 0 to 59"),
    ("* 24 * * *", 2, "runs from 0 to 23"),
    ("* * 0 * *", 4, "runs from 1 to 31"),
    ("* * 32 * *", 4, "runs from 1 to 31"),
    ("* * * 0 *", 6, "runs from 1 to 12"),
    ("* * * 13 *", 6, "runs from 1 to 12"),
    ("* * * * 8", 8, "runs from 0 to 7"),
    ("* * * * 1-8", 10, "runs from 0 to 7"),
    ("1,2,60 * * * *", 4, "runs from 0 to 59"),
    ("-5 * * * *", 0, "write numbers from 0 to 59"),
    ("1.5 * * * *", 0, "write numbers from 0 to 59"),
    ("+5 * * * *", 0, "write numbers from 0 to 59"),
    ("1_0 * * * *", 0, "write numbers from 0 to 59"),
    ("1- * * * *", 0, "write numbers from 0 to 59"),
    ("1-2-3 * * * *", 0, "write numbers from 0 to 59"),
    ("1,,2 * * * *", 2, "missing between commas"),
    ("1, * * * *", 2, "missing between commas"),
    ("*/0 * * * *", 2, "a step of 0"),
    ("0-30/00 * * * *", 5, "a step of 0"),
    ("*/90 * * * *", 2, "'@every <duration>'"),
    ("* */25 * * *", 4, "'@every <duration>'"),
    ("*/ * * * *", 0, "write numbers from 0 to 59"),
    ("*/5/5 * * * *", 0, "write numbers from 0 to 59"),
    ("*-5 * * * *", 0, "a range needs two values"),
    ("*,5 * * * *", 0, "write it alone"),
    ("5,* * * * *", 2, "write it alone"),
    ("5-5 * * * *", 0, "write '5' alone"),
    ("0,5-5/2 * * * *", 2, "write '5' alone"),
    ("* * * jan-jan *", 6, "write 'jan' alone"),
    ("* * * 1-jan *", 6, "alone"),
    ("* * * * 7-7", 8, "write '7' alone"),
    ("* 22-2 * * *", 2, "write '22-23,0-2'"),
    ("* 23-2 * * *", 2, "write '23,0-2'"),
    ("50-0 * * * *", 0, "write '50-59,0'"),
    ("* * * nov-feb *", 6, "write '11-12,1-2'"),
    ("* * * * fri-mon", 8, "write '5-7,0-1'"),
    ("* * * * fri-sun", 8, "write '5-7'"),
    ("* * * * sat-sun", 8, "write '6-7'"),
    ("* * * * 7-1", 8, "write '7,0-1'"),
    ("* * * * 7/2", 8, "needs both ends"),
    ("* * * * 1/2", 8, "needs both ends"),
    ("* * * * mon/2", 8, "needs both ends"),
    ("mon * * * *", 0, "write numbers"),
    ("* * mon * *", 4, "write numbers"),
    ("* * * mon *", 6, "JAN to DEC"),
    ("* * * * jan", 8, "SUN to SAT"),
    ("* * * january *", 6, "JAN to DEC"),
    ("* * * * monday", 8, "SUN to SAT"),
    ("* * * * mon-foo", 12, "SUN to SAT"),
    ("R * * * *", 0, "write H"),
    ("R/15 * * * *", 0, "write H"),
    ("0 r(1-5) * * *", 2, "write H"),
    ("0~59 * * * *", 0, "write H"),
    ("0 0 L * *", 4, "extension"),
    ("0 0 l * *", 4, "extension"),
    ("0 0 1,L * *", 6, "extension"),
    ("0 0 LW * *", 4, "extension"),
    ("0 0 15W * *", 4, "extension"),
    ("0 0 w15 * *", 4, "extension"),
    ("0 0 ? * *", 4, "extension"),
    ("0 0 * * ?", 8, "extension"),
    ("0 0 * * 5#2", 8, "extension"),
    ("0 0 * * fri#2", 8, "extension"),
    ("0 0 * * 5L", 8, "extension"),
    ("0 0 * * L5", 8, "extension"),
    ("0 0 * * friL", 8, "extension"),
    ("0 0 1-L * *", 6, "extension"),
    ("0 0 30 2 *", 4, "day 30 never comes"),
    ("0 0 31 feb *", 4, "up to 29"),
    ("0 0 31 4,6,9,11 *", 4, "up to 30"),
    ("0 0 31 4 1", 4, "day 31 never comes"),
    ("0 0 30,31 2 *", 4, "day 30 never comes"),
    ("0 0 H(1-31) 2 *", 4, "H(1-28)"),
    ("0 0 H(1-30)/30 H *", 4, "H(1-28)"),
    ("0 0 31 H *", 4, "H(1-28)"),
    ("H,30 * * * *", 0, "H stands alone"),
    ("H-30 * * * *", 0, "H stands alone"),
    ("H(5) * * * *", 0, "H stands alone"),
    ("H() * * * *", 0, "H stands alone"),
    ("H(0-60) * * * *", 4, "runs from 0 to 59"),
    ("H(5-5) * * * *", 0, "from a lower to a higher"),
    ("H(9-5) * * * *", 0, "from a lower to a higher"),
    ("H/0 * * * *", 2, "a step of 0"),
    ("H/61 * * * *", 2, "a step of"),
    ("* * * * H(0-7)", 12, "Sunday as 0"),
    ("@reboot", 0, "a start of the machine"),
    (" @reboot", 1, "a start of the machine"),
    ("@dayly", 0, "the nicknames are"),
    ("@", 0, "the nicknames are"),
    ("@daily 5", 6, "nothing may follow"),
    ("@daily @daily", 6, "nothing may follow"),
    ("@every", 6, "one duration"),
    ("@every 1h 30m", 6, "one duration"),
    ("@every 0s", 7, "from 1s"),
    ("@every 3661d", 7, "from 1s to 3660d"),
    ("@every 999999d9999999999s", 7, "from 1s to 3660d"),
    ("@every 1w", 7, "not a duration"),
    ("@every -1h", 7, "not a duration"),
    ("@every 1.5h", 7, "not a duration"),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_is_a_schedule(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(("text", "position", "reason"), REFUSED)
def test_is_refused_with_value_column_and_reason(text: str, position: int | None, reason: str) -> None:
    with pytest.raises(CronError) as caught:
        check_expression(text)
    error = caught.value
    assert error.code == "bad_schedule"
    assert isinstance(error, InputError)
    assert (error.text, error.position) == (text, position)
    assert reason in error.message
    assert len(error.message) < 400
    assert error.message.isascii()
    assert error.message.isprintable()
    if position is not None:
        assert f"column {position + 1}: " in error.message


@pytest.mark.parametrize("text", [text for text, _, reason in REFUSED if re.search(r"write '([^']+)'$", reason)])
def test_what_a_refusal_of_a_range_suggests_is_accepted(text: str) -> None:
    with pytest.raises(CronError) as caught:
        check_expression(text)
    remedy = re.search(r"write '([^']+)'$", caught.value.message)
    assert remedy is not None
    assert caught.value.position is not None
    before, after = text[: caught.value.position], text[caught.value.position :]
    check_expression(before + remedy[1] + (after[after.index(" ") :] if " " in after else ""))


@given(expressions())
@SETTINGS
def test_croniter_reads_the_same_values(expression: str) -> None:
    check_expression(expression)
    fields = parse(expression)
    assert not isinstance(fields, int)
    expanded, nth = croniter.expand(expression, strict=True)
    assert not nth
    for unit, field, values in zip(UNITS, fields, expanded, strict=True):
        wanted = range(unit.low, unit.low + unit.size) if values == ["*"] else values
        assert field.values == frozenset(wanted), (field, values)


@given(st.text(alphabet="0123456789*/-, @HRLW#?jansuefrily()", max_size=24) | st.text(max_size=24))
@SETTINGS
def test_any_text_is_a_schedule_or_a_cron_error_and_croniter_takes_what_we_take(text: str) -> None:
    try:
        check_expression(text)
    except CronError as error:
        assert error.position is None or 0 <= error.position <= len(text)  # noqa: PT017 (a refusal may, need not come)
        return
    if every_seconds(text) is None:
        resolved = resolve_hash(text, host_id="h", schedule_id="s")
        croniter.expand(NICKNAMES.get(resolved.strip().lower(), resolved), strict=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("@every 30s", 30), ("@every 15m", 900), (" @every  1d ", 86_400), ("@Every 1h30m", 5400), ("@daily", None)],
)
def test_every_seconds(text: str, seconds: int | None) -> None:
    assert every_seconds(text) == seconds


def test_every_seconds_of_a_wrong_text_is_refused() -> None:
    with pytest.raises(CronError):
        every_seconds("@every nothing")
