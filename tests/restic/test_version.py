"""What `restic version` says, and what each release can."""

from __future__ import annotations

import signal

import pytest

from restic_manager.restic.version import (
    FLOOR,
    Feature,
    ResticUnusableError,
    Version,
    check_version,
    parse_version,
    stop_signal,
)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("restic 0.14.0 compiled with go1.19.8 on linux/amd64\n", Version(0, 14, 0)),
        ("restic 0.18.0 compiled with go1.24.4 on linux/amd64\n", Version(0, 18, 0)),
        ("restic 0.19.1 compiled with go1.26.4 on linux/arm64\n", Version(0, 19, 1)),
        ("restic 0.12.1 (v0.12.1-0-gdeadbee) compiled with go1.16.6 on linux/amd64", Version(0, 12, 1)),
        ("restic 0.18.1-dev (compiled manually) compiled with go1.25 on freebsd/amd64", Version(0, 18, 1)),
        ("restic 0.17.3+ds-1 compiled with go1.22 on linux/amd64", Version(0, 17, 3)),
        ("restic 1.2 compiled with go1.30 on linux/amd64", Version(1, 2, 0)),
        ("warning: something\nrestic 0.16.4 compiled with go1.21.6 on linux/amd64", Version(0, 16, 4)),
    ],
)
def test_reads_the_version(answer: str, version: Version) -> None:
    assert parse_version(answer) == version


@pytest.mark.parametrize(
    "answer", ["", "rustic 0.9.1", "restic", "restic 1.2.3.4 x", "GNU bash, version 5.2", "restic x.y"]
)
def test_refuses_what_is_not_restic(answer: str) -> None:
    with pytest.raises(ResticUnusableError) as caught:
        parse_version(answer)
    assert caught.value.code == "restic_broken"
    assert "point the agent at a restic" in caught.value.message


def test_the_floor() -> None:
    check_version(FLOOR)
    with pytest.raises(ResticUnusableError) as caught:
        check_version(Version(0, 13, 1))
    assert caught.value.code == "restic_too_old"
    assert "0.13.1" in caught.value.message
    assert "0.14.0" in caught.value.message


def test_versions_order_as_releases_do() -> None:
    texts = ["0.9.6", "0.14.0", "0.16.5", "0.17.0", "0.17.1", "0.18.0", "0.19.1", "1.0.0"]
    versions = [parse_version(f"restic {text} x") for text in texts]
    assert versions == sorted(versions)
    assert [str(version) for version in versions] == texts


def test_features() -> None:
    old, new = Version(0, 14), Version(0, 19, 1)
    assert not any(old.has(feature) for feature in Feature)
    assert all(new.has(feature) for feature in Feature)
    assert Version(0, 17, 0).has(Feature.EXIT_CODES)
    assert not Version(0, 17, 0).has(Feature.PASSWORD_EXIT_CODE)
    assert not Version(0, 16, 5).has(Feature.SIGTERM_CANCELS)


def test_the_signal_that_gives_the_lock_back() -> None:
    assert stop_signal(Version(0, 14)) is signal.SIGINT
    assert stop_signal(Version(0, 16, 5)) is signal.SIGINT
    assert stop_signal(Version(0, 17)) is signal.SIGTERM
