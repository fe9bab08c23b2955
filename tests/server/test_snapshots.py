"""Lists of snapshots: taken whole or not at all, asked in every way, and other programs' work noticed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Connection

from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.domain.model import Status
from restic_manager.domain.results import CopyStats, ForgetStats, RepoStats, SnapshotRow, SnapshotSummary, TagStats
from restic_manager.domain.specs import CopySpec, ForgetSpec, SnapshotsSpec, StatsSpec, TagSpec
from restic_manager.server.store import events, hosts, repos, schedules, sizes, snapshots
from restic_manager.server.store.snapshots import Place, Wanted
from restic_manager.server.store.strangers import EVENT
from tests.server.listed import ended, fleet, snap, snapshot_id, take
from tests.server.rows import START, add_repo, at


class Fleet:
    """The rows of a fleet, and its ids."""

    def __init__(self) -> None:
        self.tx: Connection = fleet()
        self.web = hosts.resolve(self.tx, "web1").id
        self.repo = repos.resolve(self.tx, "main").id
        self.schedule = schedules.resolve(self.tx, "nightly").id

    def take(self, *rows: SnapshotRow, sent: float = 0, **more: object) -> None:
        take(self.tx, rows, host_id=self.web, repo_id=self.repo, sent=at(sent), **more)  # type: ignore[arg-type]  # passed on

    def ids(self, limit: int = 100, **wanted: object) -> list[str]:
        found, _ = snapshots.page(self.tx, Wanted(**wanted), limit=limit)  # type: ignore[arg-type]  # passed on
        return [one.id for one in found]

    def row(self) -> repos.RepoRow:
        return repos.get(self.tx, self.repo)

    def told(self) -> list[str]:
        return [event.detail for event in events.latest(self.tx, limit=10, what=EVENT)]

    def ours(self, name: object, seconds: float = 0, **fields: object) -> SnapshotRow:
        return snap(name, seconds, tags=(f"rm:{self.schedule}", "rmj:some-job"), **fields)


@pytest.fixture
def main() -> Fleet:
    return Fleet()


# -- taking a list ----------------------------------------------------------------------------------------------------


def test_a_list_replaces_the_one_before(main: Fleet) -> None:
    main.take(main.ours(1, 1), main.ours(2, 2), sent=10)
    assert main.ids() == [snapshot_id(2), snapshot_id(1)]
    main.take(main.ours(3, 3), main.ours(2, 2), sent=20)
    assert main.ids() == [snapshot_id(3), snapshot_id(2)]
    main.take(sent=30)
    assert main.ids() == []
    assert main.row().listed_at == at(30)


def test_what_is_known_of_a_snapshot(main: Fleet) -> None:
    main.take(
        snap(
            "all",
            5,
            tags=("mine", f"rm:{main.schedule}", "rmj:job-1", "rm:another", "rmj:", "rm:" + "x" * 65),
            paths=("/a\\b", "/caf\ufffd"),
            tree=snapshot_id("tree"),
            parent=snapshot_id("parent"),
            original=snapshot_id("original"),
            program="restic 0.18.0",
            summary=SnapshotSummary(files=3, size=400, data_added=50),
        ),
        snap("old", 1),
    )
    found, more = snapshots.page(main.tx, Wanted(), limit=2)
    assert not more
    whole, bare = found
    assert (whole.schedule_id, whole.job_id) == (main.schedule, "job-1")
    assert whole.tags == ("mine", "rm:another", "rmj:", "rm:" + "x" * 65)
    assert whole.paths == ("/a\\\\b", "/caf\ufffd")
    assert (whole.tree, whole.parent) == (snapshot_id("tree"), snapshot_id("parent"))
    assert (whole.original, whole.program) == (snapshot_id("original"), "restic 0.18.0")
    assert (whole.files, whole.size, whole.data_added) == (3, 400, 50)
    assert (whole.time, whole.restic_host, whole.username) == (at(5), "web1", "root")
    assert (bare.files, bare.schedule_id, bare.job_id, bare.program, bare.tags) == (None, None, None, None, ())


@pytest.mark.parametrize("said", [1, 3])
def test_a_list_with_rows_missing_changes_nothing(main: Fleet, said: int) -> None:
    main.take(main.ours(1), sent=10)
    main.take(main.ours(2), main.ours(3), sent=20, said=said)
    assert main.ids() == [snapshot_id(1)]
    assert main.row().listed_at == at(10)


def test_a_list_of_some_only_changes_nothing(main: Fleet) -> None:
    main.take(main.ours(1), sent=10)
    main.take(sent=20, spec=SnapshotsSpec(restic_host="db1"))
    main.take(sent=20, spec=SnapshotsSpec(schedule_id=main.schedule))
    assert main.ids() == [snapshot_id(1)]


def test_an_older_list_that_comes_late_changes_nothing(main: Fleet) -> None:
    main.take(main.ours(1), sent=20)
    main.take(main.ours(2), sent=10)
    assert main.ids() == [snapshot_id(1)]
    assert main.row().listed_at == at(20)


def test_what_changed_while_it_was_listed_keeps_it_stale(main: Fleet) -> None:
    assert snapshots.is_stale(main.row()), "never listed"
    main.take(sent=10)
    assert not snapshots.is_stale(main.row())
    snapshots.note_changed(main.tx, main.repo, at(20))
    assert snapshots.is_stale(main.row())
    main.take(sent=20)
    assert snapshots.is_stale(main.row()), "changed in the very moment it was begun"
    main.take(sent=21)
    assert not snapshots.is_stale(main.row())


def test_the_lists_of_repositories_are_their_own(main: Fleet) -> None:
    other = add_repo(main.tx, "other", "/srv/other").id
    main.take(main.ours(1), main.ours(2))
    take(main.tx, [snap(1), snap(3)], host_id=main.web, repo_id=other)
    assert snapshots.counts(main.tx) == {main.repo: 2, other: 2}
    assert snapshots.counts(main.tx, [other]) == {other: 2}
    snapshots.forget_repo(main.tx, main.repo)
    assert sorted(main.ids()) == sorted([snapshot_id(1), snapshot_id(3)])
    assert main.row().listed_at is None


# -- asking -----------------------------------------------------------------------------------------------------------


def test_every_question(main: Fleet) -> None:
    main.take(
        main.ours("a", 1, paths=("/etc", "/home/ann")),
        snap("b", 2, hostname="old1", tags=("keep",), paths=("/Home",)),
        snap("c", 3, paths=("/",), tags=("keep", "a_b%")),
        main.ours("d", 4, hostname="db1", paths=("/home/anna",)),
    )
    a, b, c, d = (snapshot_id(name) for name in "abcd")
    assert main.ids() == [d, c, b, a]
    assert main.ids(limit=2) == [d, c]
    assert main.ids(restic_host="web1") == [c, a]
    assert main.ids(schedule_id=main.schedule) == [d, a]
    assert main.ids(tag="keep") == [c, b]
    assert main.ids(tag="kee") == []
    assert main.ids(tag="a_b%") == [c]
    assert main.ids(tag="%") == []
    assert main.ids(since=at(2), until=at(3)) == [c, b]
    assert main.ids(path="/home/ann") == [c, a]
    assert main.ids(path="/home/ann/notes.txt") == [c, a]
    assert main.ids(path="/home") == [c], "its folder below it is not the whole of it"
    assert main.ids(path="/Home/x") == [c, b], "letters are as they are"
    assert main.ids(path="/") == [c]
    assert main.ids(repo_id=main.repo, restic_host="db1", path="/home/anna/x") == [d]
    assert main.ids(repo_id="another") == []
    assert snapshots.knows_host(main.tx, "old1")
    assert not snapshots.knows_host(main.tx, "new1")


def test_paths_that_are_not_text_are_found(main: Fleet) -> None:
    main.take(
        snap("latin", paths=("/caf\ufffd",)),
        snap("slash", paths=("/a\\b",)),
        snap("quote", paths=('/say "hi"',)),
    )
    assert main.ids(path="/caf\\xe9/menu") == [snapshot_id("latin")]
    assert main.ids(path="/a\\\\b") == [snapshot_id("slash")]
    assert main.ids(path='/say "hi"/x') == [snapshot_id("quote")]


@pytest.mark.parametrize(
    "wanted", [{"path": "etc"}, {"path": "/" + "a/" * 500}, {"path": "/a\\b"}, {"tag": "a,b"}, {"tag": ""}]
)
def test_what_can_be_no_path_or_tag_is_refused(main: Fleet, wanted: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        main.ids(**wanted)


def test_the_newest_of_each(main: Fleet) -> None:
    other = add_repo(main.tx, "other", "/srv/other").id
    main.take(
        main.ours("a", 1),
        main.ours("b", 2, paths=("/srv",)),
        main.ours("c", 1, hostname="db1"),
        snap("d", 0),
        snap("e", -5),
    )
    take(main.tx, [main.ours("f", 7), main.ours("g", 6)], host_id=main.web, repo_id=other)
    assert main.ids(latest=True) == [snapshot_id(name) for name in "fbcd"]
    assert set(main.ids(latest=True, path="/etc")) == {snapshot_id(name) for name in "facd"}
    assert main.ids(latest=True, until=at(6), repo_id=other) == [snapshot_id("g")]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=0, max_size=25), st.integers(1, 7))
def test_pages_are_the_whole_list_in_order(times: list[int], limit: int) -> None:
    """Many snapshots of one instant, some of the same id in two repositories: none is skipped, none comes twice."""
    main = Fleet()
    other = add_repo(main.tx, "other", "/srv/other").id
    rows = [snap(number, seconds) for number, seconds in enumerate(times)]
    main.take(*rows)
    take(main.tx, rows[::2], host_id=main.web, repo_id=other)
    whole, _ = snapshots.page(main.tx, Wanted(), limit=1_000)
    assert len(whole) == len(rows) + len(rows[::2])
    assert [one.time for one in whole] == sorted((one.time for one in whole), reverse=True)
    paged = []
    after: Place | None = None
    while True:
        found, more = snapshots.page(main.tx, Wanted(), limit=limit, after=after)
        paged += found
        if not more:
            break
        after = Place(found[-1].time, found[-1].id, found[-1].repo_id)
    assert paged == whole


def test_a_snapshot_by_the_beginning_of_its_id(main: Fleet) -> None:
    first, second = "ab" * 32, "abcd" + "0" * 60
    other = add_repo(main.tx, "other", "/srv/other").id
    main.take(replace(snap(1), id=first), replace(snap(2), id=second))
    assert snapshots.resolve(main.tx, "ABAB").id == first
    assert snapshots.resolve(main.tx, second).id == second
    for reference in ("abc", "", "latest", "abcg", "ff00", first + "0"):
        with pytest.raises(NotFoundError):
            snapshots.resolve(main.tx, reference)
    take(main.tx, [replace(snap(3), id="abcd" + "f" * 60), replace(snap(1), id=first)], host_id=main.web, repo_id=other)
    with pytest.raises(InputError, match=r"abcd00000000 .* in main.*abcdffffffff .* in other"):
        snapshots.resolve(main.tx, "abcd")
    with pytest.raises(InputError, match=r"several repositories \(main, other\)"):
        snapshots.resolve(main.tx, "abab")
    assert snapshots.resolve(main.tx, "abab", repo_id=other).repo_id == other
    assert snapshots.resolve(main.tx, "abcd", repo_id=main.repo).id == second


# -- other programs' work ---------------------------------------------------------------------------------------------


def test_nothing_is_said_of_the_first_list(main: Fleet) -> None:
    main.take(snap("theirs"))
    assert main.told() == []


def test_our_own_snapshots_are_no_news(main: Fleet) -> None:
    main.take(sent=10)
    main.take(main.ours(1), main.ours(2, hostname="db1"), sent=20)
    assert main.told() == []


def test_snapshots_that_nobody_of_ours_made_are_told(main: Fleet) -> None:
    main.take(sent=10)
    main.take(snap("x"), main.ours("y", hostname="elsewhere"), main.ours("z"), sent=20)
    (told,) = main.told()
    assert told.startswith("repository main: 2 snapshots came (")
    assert snapshot_id("x")[:8] in told
    assert snapshot_id("y")[:8] in told
    assert snapshot_id("z")[:8] not in told


def test_snapshots_that_went_by_nobody_of_ours_are_told(main: Fleet) -> None:
    main.take(*(main.ours(number) for number in range(8)), sent=10)
    main.take(sent=20)
    (told,) = main.told()
    assert "8 snapshots went (" in told
    assert told.endswith(" and 3 more) that no job of ours explains: something else works on it")


def forgot(main: Fleet, sent: float, *names: object, removed: int | None = None, **more: object) -> None:
    stats = ForgetStats(
        removed=len(names) if removed is None else removed, removed_ids=tuple(snapshot_id(name)[:8] for name in names)
    )
    ended(main.tx, ForgetSpec(), host_id=main.web, repo_id=main.repo, sent=at(sent), **({"result": stats} | more))  # type: ignore[arg-type]  # passed on


def test_our_own_forget_explains_what_it_says(main: Fleet) -> None:
    main.take(main.ours(1), main.ours(2), main.ours(3), sent=10)
    forgot(main, 15, 1)
    main.take(main.ours(2), main.ours(3), sent=20)
    assert main.told() == []
    main.take(main.ours(3), sent=30)
    assert main.told()[0].startswith("repository main: 1 snapshot went (" + snapshot_id(2)[:8])


@pytest.mark.parametrize("way", ["more than it names", "cut off"])
def test_a_forget_that_cannot_say_explains_everything(main: Fleet, way: str) -> None:
    main.take(main.ours(1), main.ours(2), sent=10)
    if way == "cut off":
        forgot(main, 15, status=Status.INTERRUPTED, result=None)
    else:
        forgot(main, 15, 1, removed=2_000)
    main.take(sent=20)
    assert main.told() == []


def test_a_forget_long_ago_and_a_dry_one_explain_nothing(main: Fleet) -> None:
    forgot(main, -10_000, 1, removed=2_000)
    main.take(main.ours(1), sent=10)
    forgot(main, 15, result=ForgetStats(removed=1, dry_run=True))
    main.take(sent=20)
    assert len(main.told()) == 1


def test_a_new_id_after_our_own_tag_is_no_news(main: Fleet) -> None:
    main.take(main.ours("old"), snap("theirs"), snap("gone"), sent=10)
    ended(main.tx, TagSpec(add=("x",)), host_id=main.web, repo_id=main.repo, sent=at(15), result=TagStats(changed=2))
    main.take(main.ours("new", original=snapshot_id("old")), snap("theirs-2", original=snapshot_id("theirs")), sent=20)
    (told,) = main.told()
    assert told.startswith(f"repository main: 1 snapshot went ({snapshot_id('gone')[:8]})")


def test_what_our_copy_brought_is_no_news(main: Fleet) -> None:
    main.take(sent=10)
    main.take(snap("x", original=snapshot_id("source")), sent=20)
    assert len(main.told()) == 1
    ended(
        main.tx,
        CopySpec(from_repo="elsewhere"),
        host_id=main.web,
        repo_id=main.repo,
        sent=at(25),
        result=CopyStats(copied=1),
    )
    main.take(snap("x", original=snapshot_id("source")), snap("y", original=snapshot_id("source-2")), sent=30)
    assert len(main.told()) == 1


# -- sizes ------------------------------------------------------------------------------------------------------------


def measured(main: Fleet, spec: StatsSpec, result: RepoStats, now: float) -> None:
    job = ended(main.tx, spec, host_id=main.web, repo_id=main.repo, result=result)
    sizes.note(main.tx, job, now=at(now))


def test_sizes_are_kept_and_told_newest_first(main: Fleet) -> None:
    measured(main, StatsSpec(), RepoStats(mode="raw-data", size=100, uncompressed=250, snapshots=3), 10)
    measured(main, StatsSpec(), RepoStats(mode="raw-data", size=90, snapshots=2), 20)
    measured(main, StatsSpec(), RepoStats(mode="raw-data", size=120, snapshots=4), 20)
    found = sizes.of_repo(main.tx, main.repo, limit=10)
    assert [(one.at, one.size, one.uncompressed, one.snapshots) for one in found] == [
        (at(20), 120, None, 4),
        (at(10), 100, 250, 3),
    ]
    assert sizes.newest(main.tx)[main.repo] == found[0]
    assert sizes.newest(main.tx, ["another"]) == {}
    assert sizes.of_repo(main.tx, main.repo, limit=1) == found[:1]


@pytest.mark.parametrize(
    ("spec", "mode"),
    [
        (StatsSpec(mode="restore-size"), "restore-size"),
        (StatsSpec(snapshots=("abcd1234",)), "raw-data"),
        (StatsSpec(restic_host="web1"), "raw-data"),
        (StatsSpec(schedule_id="s"), "raw-data"),
    ],
)
def test_the_size_of_a_part_is_not_the_repositorys(main: Fleet, spec: StatsSpec, mode: str) -> None:
    measured(main, spec, RepoStats(mode=mode, size=100, snapshots=3), 10)
    assert sizes.of_repo(main.tx, main.repo, limit=10) == []


# -- many -------------------------------------------------------------------------------------------------------------


def test_ten_thousand_snapshots_stay_quick(main: Fleet) -> None:
    """No figures (`benchmarks/snapshots.py` has them): nothing of it is slower than is bearable on a busy machine."""
    rows = [main.ours(number, number) for number in range(10_000)]
    begun = time.perf_counter()
    main.take(*rows, sent=1)
    main.take(*rows[5:], sent=100_000)
    assert len(main.ids()) == 100
    assert time.perf_counter() - begun < 15
    assert snapshots.counts(main.tx) == {main.repo: 9_995}
    assert main.row().listed_at == START + timedelta(seconds=100_000)
