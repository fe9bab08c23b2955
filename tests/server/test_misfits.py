"""What does not fit about a request is said with the value, unless that may be a secret."""

from __future__ import annotations

import msgspec
import pytest

from restic_manager.protocol.api import JobRequest, RepoRequest, ScheduleRequest
from restic_manager.server.api.misfits import misfit


def said(shape: type[msgspec.Struct], body: object) -> str:
    raw = msgspec.json.encode(body)
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(raw, type=shape)
    return misfit(caught.value, raw).removeprefix("the request is not valid: ")


def tag(text: str) -> dict[str, object]:
    return {"repo": "main", "spec": {"kind": "tag", "snapshots": ["0123abcd"], "add": [text]}}


@pytest.mark.parametrize(
    ("shape", "body", "words"),
    [
        (JobRequest, tag(""), "spec.add[0] is '': it must not be empty"),
        (JobRequest, tag("x" * 4096), f"spec.add[0] is '{'x' * 40}'… (4,096 characters): at most 63 characters"),
        (JobRequest, tag("a") | {"time_limit": "long"}, "time_limit: expected `int | null`, got `str`"),
        (JobRequest, {"repo": "main"}, "Object missing required field `spec`"),
        (JobRequest, {"repo": "main", "spec": {"kind": "moon"}}, "spec.kind is 'moon': invalid value 'moon'"),
        (ScheduleRequest, {"name": "n", "cron": 5}, "cron: expected `str`, got `int`"),
    ],
)
def test_the_value_is_named(shape: type[msgspec.Struct], body: object, words: str) -> None:
    assert said(shape, body) == words


def test_a_secret_is_not_repeated() -> None:
    body = {"name": "main", "url": "/srv", "password": "s3cret" * 10_000}
    assert "s3cret" not in said(RepoRequest, body)
    assert said(RepoRequest, body | {"password": "x", "url": ["s3cret"]}) == "url: expected `str`, got `array`"


@pytest.mark.parametrize("raw", [b"{", b"\xff", b'{"repo": 1' + b"[" * 5_000])
def test_what_is_no_json_is_said_as_it_is(raw: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)) as caught:
        msgspec.json.decode(raw, type=JobRequest)
    assert misfit(caught.value, raw).startswith("the request is not valid: ")
