"""Names, labels and references: what is one, and what the refusal says."""

from __future__ import annotations

import pytest

from restic_manager.domain.errors import InputError
from restic_manager.domain.model import new_id
from restic_manager.domain.names import check_labels, check_name, id_prefix, parse_label, parse_labels


@pytest.mark.parametrize("name", ["a", "web1", "Web-1.example.org", "7", "x" * 63, "cafe", "beef", "a_b", "deadbeef-x"])
def test_names(name: str) -> None:
    assert check_name(name, "host") == name


@pytest.mark.parametrize(
    "name",
    ["", "-web", ".web", "_web", "web 1", "wéb", "web/1", "x" * 64, "web\n", "web\0", "a,b", "--host", "٣", "*"],
)
def test_what_is_no_name_is_named_with_the_rule(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_name(name, "repository")
    assert repr(name[:80]) in caught.value.message
    assert "repository" in caught.value.message
    assert "beginning with a letter" in caught.value.message


AN_ID = "e67f1bc3-0985-4a64-ab27-07a7a2d9d8fb"


@pytest.mark.parametrize("name", ["deadbeef", "12345678", "deadbeef-1234", AN_ID, AN_ID.replace("-", "")])
def test_a_name_that_reads_like_an_id_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="reads like an id"):
        check_name(name, "host")


def test_every_prefix_of_an_id_from_four_on_is_a_reference() -> None:
    for id_ in (new_id() for _ in range(50)):
        assert [id_prefix(id_[:length]) for length in range(4)] == [None] * 4
        for length in range(4, 37):
            assert id_prefix(id_[:length]) == id_[:length]
            assert id_prefix(id_[:length].upper()) == id_[:length]


@pytest.mark.parametrize("text", ["", "abc", "web1", "-abc", "deadbeefx", "a" * 37])
def test_what_can_only_be_a_name(text: str) -> None:
    assert id_prefix(text) is None


def test_labels() -> None:
    assert check_labels({"site": "berlin", "tier": "", "note": "a b = c"}) == {
        "site": "berlin",
        "tier": "",
        "note": "a b = c",
    }
    assert parse_label("k=v=w") == ("k", "v=w")
    assert parse_label("k=") == ("k", "")
    assert parse_labels(["a=1", "b=2", "a=1"]) == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ({"": "v"}, "''"),
        ({"a b": "v"}, "'a b'"),
        ({"k": "x" * 257}, "x" * 80),
        ({"k": " v"}, "' v'"),
        ({"k": "a\nb"}, r"'a\nb'"),
        ({"k": "\ud800"}, "label k"),
        ({f"k{n}": "" for n in range(65)}, "65 labels"),
    ],
)
def test_what_is_no_label_is_named(labels: dict[str, str], shown: str) -> None:
    with pytest.raises(InputError) as caught:
        check_labels(labels)
    assert shown in caught.value.message


@pytest.mark.parametrize("texts", [["k"], ["=v"], ["a=1", "a=2"]])
def test_what_is_no_label_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(InputError):
        parse_labels(texts)
