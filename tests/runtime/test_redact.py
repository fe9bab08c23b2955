"""Secrets never come through, in any of the spellings programs give them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.runtime.redact import MASK, SHORTEST, Redactor, cut_userinfo

SECRETS = st.text(
    alphabet=st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=SHORTEST, max_size=40
).filter(lambda text: set(text) - set("*"))


@given(secret=SECRETS, before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_secret_is_taken_out_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([secret]).text(f"{before}{secret}{after}").replace(before, "").replace(after, "")


@given(secret=SECRETS)
def test_a_secret_is_taken_out_in_every_spelling(secret: str) -> None:
    redactor = Redactor([secret])
    for spelled in (
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    ):
        assert redactor.text(f"<{spelled}>") == f"<{MASK}>"


@given(
    user=st.text(alphabet="abcxyz09", max_size=9), secret=st.text(alphabet="abcXYZ0189_/+-é", min_size=8, max_size=30)
)
def test_basic_authorization_gives_nothing_away(user: str, secret: str) -> None:
    header = "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
    shown = Redactor([secret]).text(header)
    assert MASK in shown
    # What is left of the base64 at the edges is less than a character's worth of the secret at each side.
    assert len(shown) < len(header) - len(secret) + len(MASK) + 4


def test_a_longer_secret_leaves_no_rest_of_it() -> None:
    assert Redactor(["pass", "password-of-mine"]).text("password-of-mine pass") == f"{MASK} {MASK}"


def test_each_line_of_a_secret_is_one() -> None:
    key = "-----BEGIN-----\nabcdefgh\nijklmnop\n-----END-----"
    shown = Redactor([key]).text("line: ijklmnop")
    assert shown == f"line: {MASK}"


def test_what_is_too_short_to_hide_is_left_alone() -> None:
    assert Redactor(["a", ""]).text("a banana") == "a banana"


def test_secrets_may_be_added_later() -> None:
    redactor = Redactor()
    assert redactor.text("token-1234") == "token-1234"
    redactor.add("token-1234")
    redactor.add("other-secret")
    assert redactor.text("token-1234 other-secret") == f"{MASK} {MASK}"


def test_a_redactor_does_not_show_what_it_knows() -> None:
    assert "token" not in repr(Redactor(["token-1234"]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rest:https://joe:pw@host:8000/x", "rest:https://***@host:8000/x"),
        ("rest:http://joe@host/", "rest:http://***@host/"),
        ("at https://u:p@ss@host/path@x.", "at https://***@host/path@x."),
        ('{"url":"s3:https://k:s@b"}', '{"url":"s3:https://***@b"}'),
        ("mail joe@example.org about ws://host/a@b", "mail joe@example.org about ws://host/a@b"),
        ("two http://a:b@c http://d:e@f", "two http://***@c http://***@f"),
    ],
)
def test_the_user_part_of_a_url_is_always_cut(text: str, shown: str) -> None:
    assert cut_userinfo(text) == shown
    assert Redactor().text(text) == shown
