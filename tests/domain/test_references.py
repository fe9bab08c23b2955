"""What a reference to a secret on a host looks like, and what may not stand beside one."""

from __future__ import annotations

import msgspec
import pytest

from restic_manager.domain import references
from restic_manager.domain.errors import InputError
from restic_manager.domain.model import RepoAccess
from restic_manager.domain.references import STEERING, Reference, Source


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("agent-file:/etc/restic/pw", Reference(Source.FILE, "/etc/restic/pw")),
        ("agent-file:/srv/a b:c", Reference(Source.FILE, "/srv/a b:c")),
        ("agent-env:RESTIC_PASSWORD", Reference(Source.ENV, "RESTIC_PASSWORD")),
        ("agent-command:restic-password.sh", Reference(Source.COMMAND, "restic-password.sh")),
    ],
)
def test_the_three_forms_and_back(text: str, meant: Reference) -> None:
    assert references.parse(text) == meant
    assert meant.text == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hunter2", "is written agent-file:"),
        ("file:/etc/pw", "is written agent-file:"),
        ("agent-file:etc/pw", "whole path"),
        ("agent-file:/", "whole path"),
        ("agent-file://etc/pw", "whole path"),
        ("agent-file:/etc/../root/.ssh/id", "whole path"),
        ("agent-file:/etc/pw/", "whole path"),
        ("agent-file:/etc/p\0w", "whole path"),
        ("agent-file:/etc/p\nw", "whole path"),
        ("agent-env:", "names no variable"),
        ("agent-env:A-B", "names no variable"),
        ("agent-env:RESTIC_MANAGER_TOKEN", "restic-manager itself"),
        ("agent-command:", "names no command"),
        ("agent-command:../x", "names no command"),
        ("agent-command:-x", "names no command"),
        ("agent-command:a/b", "names no command"),
        ("agent-command:pass show x", "names no command"),
    ],
)
def test_what_is_no_reference(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        references.parse(text)


def test_a_secret_written_where_a_reference_belongs_is_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        references.parse("my-real-password")
    assert "my-real" not in caught.value.message


def test_a_variable_comes_from_one_place() -> None:
    with pytest.raises(InputError, match="B2_ACCOUNT_KEY is given and comes from the host"):
        references.check_all(None, ["B2_ACCOUNT_KEY"], {"B2_ACCOUNT_KEY": "agent-env:K"})


@pytest.mark.parametrize("name", sorted(STEERING))
def test_who_sees_the_hosts_credentials_is_the_hosts_to_say(name: str) -> None:
    credentials = {"RESTIC_REST_PASSWORD": "agent-file:/etc/pw"}
    with pytest.raises(InputError, match=f"{name} decides who gets to see RESTIC_REST_PASSWORD"):
        references.check_all(None, [name], credentials)
    references.check_all(None, [], {**credentials, name: f"agent-env:{name}"})
    references.check_all("agent-file:/etc/pw", [name], {})  # the repository's password is shown to nobody


def test_access_says_once_what_opens_it() -> None:
    for wrong in ({}, {"password": "p", "password_from": "agent-env:P"}):
        with pytest.raises(msgspec.ValidationError, match="exactly one"):
            msgspec.convert({"repo_id": "r", "url": "/x", **wrong}, RepoAccess)
    with pytest.raises(msgspec.ValidationError, match="both have A"):
        msgspec.convert(
            {"repo_id": "r", "url": "/x", "password": "p", "env": {"A": "1"}, "env_from": {"A": "agent-env:A"}},
            RepoAccess,
        )
    whole = RepoAccess(repo_id="r", url="/x", password="p")
    assert not whole.referenced
    assert whole.known_password() == "p"
    referring = RepoAccess(repo_id="r", url="/x", password_from="agent-env:P")
    assert referring.referenced
    with pytest.raises(ValueError, match="not looked up"):
        referring.known_password()
