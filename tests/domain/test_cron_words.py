"""Schedules in words: each sentence says what the fields say, no more and no less."""

from __future__ import annotations

import pytest
from hypothesis import given

from restic_manager.domain.cron import CronError, describe
from tests.domain.cron_strategies import SETTINGS, expressions

WEEK = "(Monday to Sunday)"
WORDS = [
    ("30 2 * * *", "at 02:30 every day"),
    ("05 2 * * *", "at 02:05 every day"),
    ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day"),
    ("0,30 1,2 * * *", "at 01:00, 01:30, 02:00 and 02:30 every day"),
    ("@daily", "at 00:00 every day"),
    ("@midnight", "at 00:00 every day"),
    ("@hourly", "at minute 0 of every hour"),
    ("@weekly", "at 00:00 on Sunday"),
    ("@monthly", "at 00:00 on day 1 of the month"),
    ("@yearly", "at 00:00 on day 1 of January"),
    ("* * * * *", "every minute"),
    ("*/15 * * * *", "every 15 minutes"),
    ("0-59/30 * * * *", "every 30 minutes"),
    ("*/7 * * * *", "at minutes 0 to 56 in steps of 7 of every hour"),
    ("30 * * * *", "at minute 30 of every hour"),
    ("15,45 * * * *", "at minutes 15 and 45 of every hour"),
    ("1-59/2 * * * *", "at minutes 1 to 59 in steps of 2 of every hour"),
    ("0 */2 * * *", "every 2 hours from 00:00"),
    ("15 */3 * * *", "every 3 hours from 00:15"),
    ("0 */2 * * 1", "every 2 hours from 00:00 on Monday"),
    ("23 0-20/2 * * *", "at minute 23 of hours 0 to 20 in steps of 2 every day"),
    ("* 2 * * *", "every minute during hour 2"),
    ("*/15 2-5 * * *", "every 15 minutes during hours 2 to 5"),
    ("15,45 8-18 * * *", "at minutes 15 and 45 of hours 8 to 18 every day"),
    ("10-20 8-10,22 * * *", "at minutes 10 to 20 of hours 8 to 10 and 22 every day"),
    ("30 2 * * 1-5", "at 02:30 from Monday to Friday"),
    ("30 2 * * sun", "at 02:30 on Sunday"),
    ("30 2 * * 7", "at 02:30 on Sunday"),
    ("30 2 * * 0,6", "at 02:30 on Saturday and Sunday"),
    ("30 2 * * sat,mon", "at 02:30 on Monday and Saturday"),
    ("30 2 * * 5-7", "at 02:30 from Friday to Sunday"),
    ("30 2 * * 1-4,6", "at 02:30 on Monday to Thursday and Saturday"),
    ("30 2 * * 0-7", "at 02:30 every day"),
    ("30 2 1 * *", "at 02:30 on day 1 of the month"),
    ("30 2 1,15 * *", "at 02:30 on days 1 and 15 of the month"),
    ("30 2 8-14 * *", "at 02:30 on days 8 to 14 of the month"),
    ("30 2 */2 * *", "at 02:30 on days 1 to 31 in steps of 2 of the month"),
    ("30 2 * 8 *", "at 02:30 every day in August"),
    ("30 2 * jan,jun-aug *", "at 02:30 every day in January and June to August"),
    ("30 2 29 2 *", "at 02:30 on day 29 of February"),
    ("30 2 1 */3 *", "at 02:30 on day 1 of January, April, July and October"),
    ("*/15 * * 12 *", "every 15 minutes every day in December"),
    ("*/15 * 1 * *", "every 15 minutes on day 1 of the month"),
    ("30 2 1 * mon", "at 02:30 on either day 1 of the month or any Monday"),
    ("30 2 1,15 * sat,sun", "at 02:30 on either days 1 and 15 of the month or any Saturday or Sunday"),
    ("30 2 1 1 fri", "at 02:30 on either day 1 of January or any Friday in January"),
    ("30 2 */2 * mon", "at 02:30 on days 1 to 31 in steps of 2 of the month, only if it is a Monday"),
    ("30 2 13 * */5", "at 02:30 on day 13 of the month, only if it is a Friday or Sunday"),
    ("30 2 1-31 * mon", "at 02:30 every day"),
    ("30 2 1 * 1-7", "at 02:30 every day"),
    ("H H * * *", "at a time fixed per host every day"),
    ("H H(1-3) * * *", "at a time fixed per host between 01:00 and 03:59 every day"),
    ("H 2 * * *", "at a minute fixed per host between 02:00 and 02:59 every day"),
    ("H(0-29) 2 * * *", "at a minute fixed per host (0 to 29) of hour 2 every day"),
    ("H * * * *", "at a minute fixed per host (0 to 59) of every hour"),
    ("H/15 * * * *", "at minutes 0 to 59 in steps of 15 from one fixed per host (0 to 14) of every hour"),
    ("H/15 2 * * *", "at minutes 0 to 59 in steps of 15 from one fixed per host (0 to 14) of hour 2 every day"),
    ("30 H * * *", "at minute 30 of an hour fixed per host (0 to 23) every day"),
    ("30 H(1-5) * * *", "at minute 30 of an hour fixed per host (1 to 5) every day"),
    ("H H H * *", "at a time fixed per host on a day fixed per host (1 to 28) of the month"),
    ("H H * * H", "at a time fixed per host on a weekday fixed per host (Monday to Sunday)"),
    ("H H * * H(1-5)", "at a time fixed per host on a weekday fixed per host (Monday to Friday)"),
    ("H H 1 H *", "at a time fixed per host on day 1 of a month fixed per host (January to December)"),
    (
        "H H H/7 * *",
        "at a time fixed per host on days 1 to 31 in steps of 7 from one fixed per host (1 to 7) of the month",
    ),
    (
        "H H 1 * H",
        "at a time fixed per host on either day 1 of the month or a weekday fixed per host (Monday to Sunday)",
    ),
    (
        "0 4 */2 * H",
        "at 04:00 on days 1 to 31 in steps of 2 of the month, only if it is a weekday fixed per host " + WEEK,
    ),
]


@pytest.mark.parametrize(("expression", "words"), WORDS)
def test_words(expression: str, words: str) -> None:
    assert describe(expression, "Europe/Berlin") == f"{words}, Europe/Berlin"


def test_each_host_has_its_own_zone() -> None:
    assert describe("30 2 * * *", "host") == "at 02:30 every day, in each host's own time zone"


def test_every_has_no_zone() -> None:
    assert describe("@every 90m", "Europe/Berlin") == "every 1h30m, counted from the schedule's creation"


def test_no_words_for_what_is_no_schedule() -> None:
    with pytest.raises(CronError):
        describe("0 0 30 2 *", "UTC")


@given(expressions())
@SETTINGS
def test_any_schedule_has_one_line_of_words(expression: str) -> None:
    words = describe(expression, "UTC")
    assert words.isascii()
    assert words.isprintable()
    assert words.endswith(", UTC")
    assert "  " not in words
