"""The policy as a file: what it says, that nobody else wrote it, and that a word added changes nothing else."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.agent.policy_edit import allow, with_words
from restic_manager.agent.policy_file import NAME, PolicyBook, book_of, load
from restic_manager.domain.errors import InputError, NotPermittedError
from restic_manager.domain.policy import SAFE_DEFAULT, Denied, Policy

WHOLE = """\
# ours
kinds = ["default", "forget"]   # retention runs here
sources = [
    "/srv",  # the site
    '/home/*/Documents',
]

restore_targets = ["/srv/back"]
upload_limit = 500
concurrent_jobs = 2
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder / NAME


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_without_a_file_there_is_the_safe_default(path: Path) -> None:
    loaded = load(path, named=False)
    assert loaded.policy == SAFE_DEFAULT
    assert loaded.where("kinds") == "the safe default, no policy file"


def test_a_file_that_was_named_and_is_not_there_is_no_default(path: Path) -> None:
    with pytest.raises(NotPermittedError, match="there is no policy file"):
        load(path, named=True)


def test_each_key_knows_its_line(path: Path) -> None:
    loaded = load(write(path, WHOLE), named=False)
    assert loaded.policy == Policy(
        kinds=("default", "forget"),
        sources=("/srv", "/home/*/Documents"),
        restore_targets=("/srv/back",),
        upload_limit=500,
        concurrent_jobs=2,
    )
    assert loaded.where("restore_targets") == f"{path}, line 8: restore_targets"
    assert loaded.where("hooks") == f"the safe default, {path} says nothing of hooks"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kinds = [", "is no TOML"),
        ("\nkind = ['*']", r"kind is no key of a policy: did you mean kinds\?"),
        ("# a\nkinds = ['forgett']", r"line 2: kinds 'forgett' is no kind: did you mean forget\?"),
        ("kinds = 'forget'", r"line 1: kinds has to be a list"),
        ("kinds = [1]", r"line 1: kinds has to be a list"),
        ("sources = ['srv']", r"line 1: sources 'srv' is not absolute"),
        ("sources = ['/srv/../etc']", "in such a spelling"),
        ("upload_limit = '5'", "has to be a whole number"),
        ("upload_limit = true", "has to be a whole number"),
        ("upload_limit = 0", "line 1: upload_limit .*>= 1"),
        ("[policy]\nkinds = []", "policy is no key"),
        ("hooks = ['']", "line 1: hooks .*length"),
    ],
)
def test_a_file_that_cannot_be_understood_says_where(path: Path, text: str, said: str) -> None:
    with pytest.raises(NotPermittedError, match=said):
        load(write(path, text), named=False)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_write_is_not_believed(path: Path, mode: int) -> None:
    with pytest.raises(NotPermittedError, match="chmod go-w"):
        load(write(path, WHOLE, mode), named=False)


def test_nor_is_one_in_a_folder_that_others_write(path: Path) -> None:
    write(path, WHOLE)
    path.parent.chmod(0o770)
    with pytest.raises(NotPermittedError, match="can be changed by others"):
        load(path, named=False)


def test_nor_is_somebody_elses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, WHOLE)
    owner = path.stat().st_uid
    monkeypatch.setattr("restic_manager.agent.policy_file._ROOT", owner + 2)
    monkeypatch.setattr("restic_manager.agent.policy_file.os.geteuid", lambda: owner + 1)
    with pytest.raises(NotPermittedError, match=f"belongs to user {owner}"):
        load(path, named=False)


def test_nor_is_what_is_no_file(path: Path) -> None:
    os.mkfifo(path, 0o600)
    with pytest.raises(NotPermittedError, match="not a regular file"):
        load(path, named=False)


def test_a_change_is_seen_by_the_next_job(path: Path) -> None:
    book = PolicyBook(path, named=False)
    assert book.current().policy == SAFE_DEFAULT
    assert book.concurrent_jobs() is None
    write(path, "concurrent_jobs = 1\n")
    assert book.current().policy.concurrent_jobs == book.concurrent_jobs() == 1
    assert book.current() is book.current()
    path.chmod(0o666)
    for _ in range(2):
        with pytest.raises(NotPermittedError):
            book.current()
    path.chmod(0o600)
    assert book.current().policy.concurrent_jobs == 1
    path.unlink()
    assert book.current().policy == SAFE_DEFAULT


def test_a_refusal_names_the_line_and_the_command_on_the_host(path: Path) -> None:
    book = book_of(path.parent, None)
    write(path, WHOLE)
    denied = Denied("restores into /a b", "restore_targets", (("allow-restore", "/a b"),))
    assert book.refusal(denied, book.current()).message == (
        f"this host's policy does not allow restores into /a b ({path}, line 8: restore_targets). To allow it, its "
        f"administrator runs on the host: `restic-manager agent policy allow-restore '/a b' --policy {path}`"
    )


def test_a_word_added_leaves_everything_else_as_it_was(path: Path) -> None:
    write(path, WHOLE)
    assert allow(path, "sources", ("/opt", "/srv")) == ("/opt",)
    assert allow(path, "kinds", ("prune",)) == ("prune",)
    assert allow(path, "hooks", ("stop-db",)) == ("stop-db",)
    assert (
        path.read_text()
        == WHOLE.replace("'/home/*/Documents',", "'/home/*/Documents', \"/opt\"").replace(
            '"forget"]', '"forget", "prune"]'
        )
        + 'hooks = ["stop-db"]\n'
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path, named=False).policy.sources == ("/srv", "/home/*/Documents", "/opt")


def test_the_first_word_makes_the_file_and_keeps_the_default(path: Path) -> None:
    assert allow(path, "restore_targets", ("/srv",)) == ("/srv",)
    text = path.read_text()
    assert text.startswith("# What this host lets")
    assert tomllib.loads(text) == {"restore_targets": ["default", "/srv"]}
    assert allow(path, "restore_targets", ("/srv",)) == ()
    assert allow(path, "sources", ("/srv",)) == ()  # all are allowed


@pytest.mark.parametrize("word", ["", "relative", "/a/../b"])
def test_a_word_that_can_mean_nothing_is_not_written(path: Path, word: str) -> None:
    with pytest.raises(InputError):
        allow(path, "restore_targets", (word,))
    assert not path.exists()


def test_a_file_that_is_somebody_elses_is_not_written(path: Path) -> None:
    write(path, WHOLE, 0o666)
    with pytest.raises(NotPermittedError):
        allow(path, "kinds", ("prune",))
    assert path.read_text() == WHOLE


_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1, max_size=12)


@given(st.lists(_WORDS, max_size=3), _WORDS, st.sampled_from(["[{}]", "[ {} ]", '[\n  {},\n]  # x ] "', "[{},]"]))
def test_any_list_can_be_added_to(before: list[str], word: str, form: str) -> None:
    quoted = [with_words("", "hooks", (one,)).splitlines()[-1].removeprefix("hooks = [")[:-1] for one in before]
    listed = form.format(", ".join(quoted)) if before else "[]"
    text = f"upload_limit = 5\n hooks={listed}\ndownload_limit = 6 # ]\n"
    assert tomllib.loads(text)["hooks"] == before
    after = with_words(text, "hooks", (word,))
    assert tomllib.loads(after) == {"upload_limit": 5, "hooks": [*before, word], "download_limit": 6}
