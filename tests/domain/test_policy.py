"""The agent policy's decisions: what is allowed, and that nothing slips past a pattern."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restic_manager.domain import policy
from restic_manager.domain.model import Kind
from restic_manager.domain.policy import KIND_WORDS, SAFE_DEFAULT, Policy
from restic_manager.domain.retention import Retention
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    ForgetPolicy,
    ForgetSpec,
    PruneSpec,
    Tuning,
    UnlockSpec,
)


@given(st.text("ab/*", max_size=8), st.text("ab/", max_size=12))
def test_a_pattern_is_what_its_regular_expression_is(pattern: str, text: str) -> None:
    oracle = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL)
    assert policy.matches(pattern, text) == (oracle is not None)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not policy.matches("*a" * 1_000 + "b", "a" * 200_000)


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/srv", "/srv", True),
        ("/srv", "/srv/www/a", True),
        ("/srv/", "/srv", True),
        ("/srv", "/srv2", False),
        ("/", "/etc/shadow", True),
        ("/home/*/Documents", "/home/ann/Documents/x", True),
        ("/home/*/Documents", "/home/ann/.ssh", False),
        ("*.conf", "/etc/x/y.conf", True),
    ],
)
def test_a_folder_covers_all_below_it_and_nothing_beside(pattern: str, path: str, covered: bool) -> None:
    assert policy.covers(pattern, path) is covered


def test_the_safe_default_takes_nothing_away() -> None:
    words = set(policy.allowed_kinds(SAFE_DEFAULT))
    assert words == {kind.value for kind in Kind} - {"forget", "prune", "tag"}
    assert policy.deny_kind(SAFE_DEFAULT, UnlockSpec()) is None
    assert policy.deny_kind(SAFE_DEFAULT, BackupSpec(paths=("/etc",))) is None
    denied = policy.deny_kind(SAFE_DEFAULT, UnlockSpec(remove_all=True))
    assert denied is not None
    assert denied.remedies == (("allow-kind", "unlock-all"),)


def test_a_dry_run_of_what_is_not_allowed_only_reads() -> None:
    keep = (ForgetPolicy(schedule_id="s", restic_host="h", keep=Retention(last=1)),)
    assert policy.deny_kind(SAFE_DEFAULT, ForgetSpec(policies=keep, dry_run=True)) is None
    assert policy.deny_kind(SAFE_DEFAULT, ForgetSpec(policies=keep)) is not None
    assert policy.deny_kind(SAFE_DEFAULT, PruneSpec(dry_run=True)) is None
    assert policy.deny_kind(SAFE_DEFAULT, PruneSpec()) is not None


def test_kinds_that_are_said_replace_the_default_or_stand_beside_it() -> None:
    assert policy.allowed_kinds(Policy(kinds=("backup",))) == ("backup",)
    assert policy.allowed_kinds(Policy(kinds=())) == ()
    assert policy.allowed_kinds(Policy(kinds=("*",))) == KIND_WORDS
    beside = set(policy.allowed_kinds(Policy(kinds=("default", "forget"))))
    assert beside == set(policy.allowed_kinds(SAFE_DEFAULT)) | {"forget"}


def test_sources_are_all_until_some_are_said() -> None:
    assert policy.deny_sources(SAFE_DEFAULT, ["/etc/shadow"]) is None
    said = Policy(sources=("/srv", "/home"))
    assert policy.deny_sources(said, ["/srv/a", "/home"]) is None
    denied = policy.deny_sources(said, ["/srv", "/etc/shadow", "/root"])
    assert denied is not None
    assert denied.key == "sources"
    assert denied.asked == "reading /etc/shadow (and 1 more)"
    assert denied.remedies == (("allow-source", "/etc/shadow"), ("allow-source", "/root"))


def test_restores_go_below_the_agents_own_folder_until_targets_are_said() -> None:
    own = "/var/lib/rm/restores"
    assert policy.deny_targets(SAFE_DEFAULT, [f"{own}/x"], own=own) is None
    assert policy.deny_targets(SAFE_DEFAULT, ["/etc"], own=own) is not None
    both = Policy(restore_targets=("default", "/srv"))
    assert policy.deny_targets(both, [own, "/srv/a"], own=own) is None
    assert policy.deny_targets(Policy(restore_targets=("/srv",)), [own], own=own) is not None


@pytest.mark.parametrize(
    ("url", "env", "place"),
    [
        ("rest:https://u:p@h:8000/x/", {}, "rest:https://h:8000/x"),
        ("rest:https://evil.example?@good.example/x", {}, "rest:https://evil.example?@good.example/x"),
        ("/srv//a/../r/", {}, "/srv/r"),
        ("local:/srv/r", {}, "/srv/r"),
        ("/", {}, "/"),
        ("sftp:u@h:/x/", {}, "sftp:u@h:/x"),
        ("s3:https://h/b", {"AWS_SECRET_ACCESS_KEY": "k"}, "s3:https://h/b"),
        ("s3:https://h/b", {"HTTPS_PROXY": "http://u:p@x/"}, "s3:https://h/b HTTPS_PROXY=http://x/"),
        ("swift:c:/", {"OS_AUTH_URL": "https://a"}, "swift:c: OS_AUTH_URL=https://a"),
    ],
)
def test_a_place_has_no_login_and_says_what_leads_elsewhere(url: str, env: dict[str, str], place: str) -> None:
    assert policy.place_of(url, env) == place


@pytest.mark.parametrize(
    ("pattern", "place", "allowed"),
    [
        ("rest:https://h/*", "rest:https://h/web1", True),
        ("rest:https://h", "rest:https://h/web1", True),
        ("rest:https://h", "rest:https://h.evil.example/", False),
        ("rest:https://h/a/*", "rest:https://h/a/../b", False),
        ("rest:https://h/a/*", "rest:https://h/a/%2E%2e/b", False),
        ("sftp:u@h:/a/*", "sftp:u@h:/a/../b", False),
        ("rest:https://h/*", "rest:https://h/a HTTPS_PROXY=http://evil", False),
        ("rest:https://h/* HTTPS_PROXY=http://proxy*", "rest:https://h/a HTTPS_PROXY=http://proxy:8080", True),
        ("rest:https://h/* HTTPS_PROXY=http://proxy", "rest:https://h/a", False),
        ("*", "rest:https://h/a HTTPS_PROXY=http://evil", True),
    ],
)
def test_a_pattern_of_a_repository_reaches_no_other(pattern: str, place: str, allowed: bool) -> None:
    assert (policy.deny_repository(Policy(repositories=(pattern,)), place, known=()) is None) is allowed


def test_a_repository_in_use_needs_no_pattern_and_another_needs_a_word() -> None:
    assert policy.deny_repository(SAFE_DEFAULT, "/srv/r", known={"/srv/r"}) is None
    denied = policy.deny_repository(SAFE_DEFAULT, "/srv/other", known={"/srv/r"})
    assert denied is not None
    assert denied.remedies == (("allow-repository", "/srv/other"),)


def test_programs_are_denied_until_they_are_named() -> None:
    assert policy.deny_hook(SAFE_DEFAULT, "stop-db") is not None
    assert policy.deny_hook(Policy(hooks=("stop-*",)), "stop-db") is None
    assert policy.deny_command(Policy(hooks=("*",)), "dump-db") is not None
    assert policy.deny_command(Policy(commands=("dump-db",)), "dump-db") is None


def test_ceilings_lower_what_is_above_them_and_nothing_else() -> None:
    ceiling = Policy(upload_limit=100, download_limit=200)
    spec = CheckSpec(tuning=Tuning(upload_limit=500, download_limit=50, nice=3))
    assert policy.lowered(ceiling, spec) == CheckSpec(tuning=Tuning(upload_limit=100, download_limit=50, nice=3))
    assert policy.lowered(SAFE_DEFAULT, spec) == spec
    assert policy.lowered(ceiling, UnlockSpec()) == UnlockSpec()
