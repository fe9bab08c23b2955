"""A log record is one line, in UTC, without secrets, and cannot be forged from outside."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator

import pytest

from restic_manager.domain.errors import InputError
from restic_manager.runtime.logs import facts, set_up_logging
from restic_manager.runtime.redact import Redactor

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [a-z_.]+: .*\n")


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("restic_manager")
    handlers, level, our_level, raising = list(root.handlers), root.level, ours.level, logging.raiseExceptions
    yield
    logging.captureWarnings(capture=False)
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    ours.setLevel(our_level)
    logging.raiseExceptions = raising


def logged(level: str = "info", *secrets: str) -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    set_up_logging(level, Redactor(secrets), stream=stream)
    return stream, logging.getLogger("restic_manager.tests")


def test_a_record_is_one_line_with_its_facts() -> None:
    stream, logger = logged()
    logger.info("job %s ended", "j1", extra=facts(host="web1", status="failed", error='no "space" left', empty=""))
    line = stream.getvalue()
    assert LINE.fullmatch(line)
    assert line.endswith(
        'INFO restic_manager.tests: job j1 ended host=web1 status=failed error="no \\"space\\" left" empty=""\n'
    )


def test_control_characters_cannot_forge_a_line_or_steer_a_terminal() -> None:
    stream, logger = logged()
    logger.info("path %s", "/a\n2026-01-01T00:00:00.000Z ERROR x: forged\r\x1b[2J\x9b1m\u2028end")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "\\n2026" in line
    assert "\\x1b[2J\\x9b1m\\u2028end" in line


def test_secrets_are_taken_out_of_message_facts_and_traceback() -> None:
    stream, logger = logged("info", "hunter2-secret")
    try:
        int("hunter2-secret")
    except ValueError:
        logger.exception("tried hunter2-secret", extra=facts(password="hunter2-secret", url="rest:http://u:p@h/"))
    line = stream.getvalue()
    assert LINE.fullmatch(line)
    assert "hunter2" not in line
    assert "u:p@" not in line
    assert "| ValueError: invalid literal for int() with base 10: '***'" in line
    assert "Traceback" in line


def test_levels_apply_to_us_and_libraries_speak_from_warning_up() -> None:
    stream, logger = logged("info")
    logger.debug("too fine")
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble")
    assert [line.split(": ", 1)[1] for line in stream.getvalue().splitlines()] == ["trouble"]
    stream, logger = logged("debug")
    logger.debug("fine")
    logging.getLogger("some.library").debug("chatter")
    assert len(stream.getvalue().splitlines()) == 2


def test_setting_up_again_replaces_what_was_there() -> None:
    first, _ = logged()
    second, logger = logged()
    logger.warning("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_warnings_are_logged() -> None:
    stream, _ = logged()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    logging.captureWarnings(capture=False)
    assert "old thing" in stream.getvalue()


def test_a_level_that_is_none_is_an_input_error() -> None:
    with pytest.raises(InputError) as caught:
        set_up_logging("loud", Redactor())
    assert "'loud'" in caught.value.message
