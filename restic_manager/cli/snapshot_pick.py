"""Which snapshots are meant, and how fresh the list is that says so.

Owns the way from an id, or `latest` of a host and a time, to one snapshot, and waiting for a list to be made anew.
Refuses to know what is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from restic_manager.cli.command import Operator
from restic_manager.cli.text import moment, short, when
from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.protocol.api import ListState, SnapshotsView, SnapshotView

LATEST: Final = "latest"
NO_SNAPSHOT: Final = "no_snapshot"
"""The code of a wish for a snapshot that is not there: wrong input, as the list has to be looked at again."""
PATIENCE: Final = 60.0
"""Seconds that a list is waited for while it is made anew."""
PAGE: Final = 1_000
"""Snapshots asked for at once."""
NEAR: Final = 200
"""So many of a host's newest snapshots are looked at for one that has certain paths."""


def listed_anew(operator: Operator, **asked: Any) -> SnapshotsView:
    """Given a question, have the lists that are stale made anew (waiting for that a while), and return the answer."""
    view = operator.client.snapshots(**asked, refresh=True)
    jobs = [state.job_id for state in view.lists if state.job_id is not None]
    if not jobs:
        return view
    from restic_manager.cli.follow import Watcher, follow_all

    operator.screen.note(f"listing {', '.join(state.repo for state in view.lists if state.job_id)} anew")
    follow_all(operator.client, [operator.client.job(job) for job in jobs], Watcher(), limit=PATIENCE)
    return operator.client.snapshots(**asked)


def paged(operator: Operator, *, limit: int, refresh: bool, **asked: Any) -> SnapshotsView:
    """Given a question and how many snapshots are wanted, return so many: page after page, as one answer."""
    ask = partial(listed_anew, operator) if refresh else operator.client.snapshots
    first = page = ask(**asked, limit=min(limit, PAGE))
    found = list(page.snapshots)
    while page.next is not None and len(found) < limit:
        page = operator.client.snapshots(**asked, limit=min(limit - len(found), PAGE), after=page.next)
        found += page.snapshots
    return replace(page, snapshots=tuple(found), lists=first.lists)


def say_freshness(operator: Operator, lists: tuple[ListState, ...]) -> None:
    """Given how fresh the lists are, say it on standard error: the stale ones each, the others by the oldest."""
    now = operator.now()
    fresh = [state.at for state in lists if state.at is not None and not state.stale]
    if fresh:
        operator.screen.note(f"listed {when(min(fresh), now)}")
    never: dict[str, list[str]] = {}
    for state in lists:
        if state.at is not None and not state.stale:
            continue
        under_way = f" (job {short(state.job_id)} lists it now)" if state.job_id else ""
        why = f": {state.note}" if state.note else under_way or ": --refresh lists it anew"
        if state.at is None:
            never.setdefault(why, []).append(state.repo)
        else:
            operator.screen.note(f"{state.repo}: listed {when(state.at, now)}, and changed since{why}")
    for why, repos in never.items():
        operator.screen.note(f"{', '.join(repos)}: never listed yet{why}")


def pick(
    operator: Operator,
    ref: str,
    *,
    host: str | None = None,
    repo: str | None = None,
    at: datetime | None = None,
    paths: Sequence[str] = (),
) -> SnapshotView:
    """Given an id (or a beginning of it), or `latest` of what is named and not after `at`, return the snapshot.

    paths: `latest` is the newest that is of these, where there is one: a host may have schedules of several things.
    Raise InputError if there is none (in that repository), or if it is not of the host named; NotFoundError if there is
    no such host or repository.
    """
    if ref == LATEST:
        return _latest(operator, host=host, repo=repo, at=at, paths=paths)
    if at is not None:
        raise InputError(f"--at says which of several snapshots, and {ref} is one already: write `latest`")
    try:
        found = operator.client.snapshot(ref, repo=repo)
    except NotFoundError as error:
        if repo is not None:
            operator.client.repo(repo)  # raises what is to be said if that is what is not there
        raise InputError(error.message, code=NO_SNAPSHOT) from None
    if host is not None and not is_of(operator, found, host):
        raise InputError(
            f"snapshot {short(found.id)} is of {of_whom(found)}, not of {host}: leave --host out"
            f" (to restore it onto {host}, say --on-host {host})"
        )
    return found


def pick_all(operator: Operator, refs: list[str]) -> list[SnapshotView]:
    """Given ids, return the snapshots, each once; raise InputError if they are not of one repository."""
    found = list({one.id: one for one in (pick(operator, ref) for ref in refs)}.values())
    repos = sorted({one.repo for one in found})
    if len(repos) > 1:
        raise InputError(f"these snapshots are in {' and '.join(repos)}: name those of one repository at a time")
    return found


def is_of(operator: Operator, snapshot: SnapshotView, host: str) -> bool:
    """Given a snapshot and a host as it was typed, return whether it is that host's."""
    if host in {snapshot.host, snapshot.restic_host}:
        return True
    try:
        known = operator.client.host(host)
    except NotFoundError:
        return False  # a host that is gone is known by the name in its snapshots alone
    return known.restic_host == snapshot.restic_host


def of_whom(snapshot: SnapshotView) -> str:
    """Given a snapshot, return whose it is: the host's name now, or the one in it where that host is none of ours."""
    return snapshot.host or f"{snapshot.restic_host} (no host of ours now)"


def at_instant(text: str) -> datetime:
    """Given `2026-11-20 18:00` (this machine's own time) or RFC 3339, return the instant in UTC."""
    from zoneinfo import ZoneInfo

    from restic_manager.domain.instants import parse_instant
    from restic_manager.runtime.localzone import local_timezone

    try:
        local = datetime.fromisoformat(text.replace("\0", "NUL"))
    except ValueError:
        raise InputError(f"--at {text!r}: write '2026-11-20 18:00', or 2026-11-20T18:00:00Z") from None
    if local.tzinfo is not None:
        return parse_instant(text)
    return local.replace(tzinfo=ZoneInfo(local_timezone())).astimezone(UTC)


def only_repo(operator: Operator, repo: str | None, host: str | None) -> str:
    """Given the repository that was named, return it; without one the only one there is (of that host)."""
    if repo is not None:
        return repo
    known = [one for one in operator.client.repos() if host is None or host in one.hosts]
    if len(known) == 1:
        return known[0].name
    if not known:
        raise NotFoundError("there is no repository" + (f" that {host} uses: say --repo R" if host else " yet"))
    raise InputError(f"say which repository: --repo {' or --repo '.join(one.name for one in known[:6])}")


def _latest(
    operator: Operator, *, host: str | None, repo: str | None, at: datetime | None, paths: Sequence[str]
) -> SnapshotView:
    if host is None:
        raise InputError("the latest of which host? say --host H")
    asked: dict[str, Any] = {"host": host, "repo": repo, "until": at, "limit": NEAR if paths else 1}
    view = listed_anew(operator, **asked)
    now = operator.now()
    for state in view.lists:
        if state.stale and state.at is not None:
            why = f" and cannot be made anew: {state.note}" if state.note else ", and has changed since"
            operator.screen.note(f"warning: the list of {state.repo} is of {moment(state.at, now)}{why}")
    unknown = [state for state in view.lists if state.at is None]
    if unknown and repo is None:
        operator.screen.note(f"not looked into, because never listed: {', '.join(state.repo for state in unknown)}")
    elif unknown:
        say_freshness(operator, tuple(unknown))
    if not view.snapshots:
        where = "" if repo is None else f" in {repo}"
        until = "" if at is None else f" at or before {at:%Y-%m-%d %H:%M:%S} UTC"
        sentence = f"there is no snapshot of {host}{where}{until}: `restic-manager snapshot list` shows them"
        raise InputError(sentence, code=NO_SNAPSHOT)
    of_these = (one for one in view.snapshots if all(_is_about(one, path) for path in paths))
    return next(of_these, view.snapshots[0])


def _is_about(snapshot: SnapshotView, path: str) -> bool:
    """Whether what a snapshot is of holds a path, or lies below it."""
    return any(_below(path, own) or _below(own, path) for own in snapshot.paths)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
