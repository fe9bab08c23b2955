"""Secrets in text."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain.model import RepoAccess
from restic_manager.restic.redact import redactor


def test_every_secret_of_a_repository() -> None:
    repo = RepoAccess(
        repo_id="r",
        url="rest:http://user:url%20secret@host/",
        password='pass"word',
        env={
            "AWS_SECRET_ACCESS_KEY": "aws-secret",
            "AWS_DEFAULT_REGION": "eu-1",
            "https_proxy": "http://u:proxy-secret@p:1/",
            "AZURE_ACCOUNT_SAS": "sas-secret",
        },
    )
    take_out = redactor(repo)
    said = 'a pass"word b pass\\"word c url%20secret d url secret e aws-secret f eu-1 g proxy-secret h sas-secret'
    assert take_out(said) == "a *** b *** c *** d *** e *** f eu-1 g *** h ***"


def test_a_secret_inside_another() -> None:
    repo = RepoAccess(repo_id="r", url="/x", password="abc", env={"B2_ACCOUNT_KEY": "abcdef"})
    assert redactor(repo)("abcdef abc") == "*** ***"


def test_what_is_too_short_to_be_one_hides_nothing() -> None:
    assert redactor(RepoAccess(repo_id="r", url="/x", password="a"))("a banana") == "a banana"


@given(st.text(min_size=3, alphabet=st.characters(exclude_categories=["Cs"])), st.text())
def test_no_secret_comes_through(secret: str, around: str) -> None:
    take_out = redactor(RepoAccess(repo_id="r", url="/x", password=secret))
    cleaned = take_out(f"{around}{secret}{around} {quote(secret)}")
    # The stars themselves may spell a secret made of stars.
    assert secret in "***" or secret not in cleaned or "***" in secret or secret in f"{around}***{around}"
