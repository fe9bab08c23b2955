"""Questions to the repository after a run that ended without a word: is there a snapshot, is there a lock of ours.

Every question is bounded in time; none waits for a lock. Refuses to judge what the answers mean for the job.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from restic_manager.domain.errors import ManagerError
from restic_manager.domain.results import Lock
from restic_manager.restic.answers.locks import read_lock
from restic_manager.restic.capture import Captured, capture
from restic_manager.restic.command import (
    JOB_TAG,
    Command,
    Setting,
    cat_lock_command,
    list_locks_command,
    snapshots_by_job_command,
    unlock_command,
)
from restic_manager.restic.output import Redact, clean, clean_text, cut
from restic_manager.restic.version import Version, stop_signal

_ID = re.compile(r"[0-9a-f]{8,64}")


class LookupFailedError(ManagerError):
    """The repository did not answer: whether there is a snapshot or a lock is not known."""

    default_code = "lookup_failed"


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one repository, with one restic, within a bound for each question."""

    setting: Setting
    version: Version
    redact: Redact
    within: float = 30.0

    async def find_snapshot(self, job_id: str) -> str | None:
        """Given a job's id, return the newest snapshot it made, or None; raise LookupFailedError if that is unknown."""
        listed = _decode(await self._ask(snapshots_by_job_command(self.setting, job_id)), list)
        tag = f"{JOB_TAG}{job_id}"
        found = [
            (str(snapshot.get("time")), str(snapshot["id"]))
            for snapshot in listed
            if isinstance(snapshot, dict)
            and tag in (snapshot.get("tags") or ())
            and _ID.fullmatch(str(snapshot.get("id")))
        ]
        return max(found)[1] if found else None

    async def locks(self) -> list[str]:
        """Return the ids of all locks there are; raise LookupFailedError if that is unknown."""
        words = (await self._ask(list_locks_command(self.setting))).decode("ascii", "replace").split()
        return [word for word in words if _ID.fullmatch(word)]

    async def release_lock(self, pid: int) -> bool:
        """Given the pid of a dead restic of this host, remove its lock; return whether there was one.

        Raise LookupFailedError if that could not be found out or done. Locks of others stay: `unlock` removes only
        those whose process is dead on this host, and those older than 30 minutes.
        """
        with trio.move_on_after(self.within * 2):
            return await self._release_lock(pid)
        raise LookupFailedError(f"there are too many locks to look at within {self.within * 2:g} s.")

    async def _release_lock(self, pid: int) -> bool:
        for lock_id in await self.locks():
            lock = await self._lock(lock_id)
            if lock is not None and lock.hostname == os.uname().nodename and lock.pid == pid:
                await self._ask(unlock_command(self.setting))
                return True
        return False

    async def whose_locks(self, most: int) -> list[Lock]:
        """Return the locks there are, `most` of them; raise LookupFailedError if nothing is known of any in time."""
        found: list[Lock] = []
        with trio.move_on_after(self.within * 2):
            for lock_id in (await self.locks())[:most]:
                lock = await self._lock(lock_id)
                if lock is not None:
                    found.append(lock)
            return found
        if not found:
            raise LookupFailedError(f"the repository did not answer within {self.within * 2:g} s.")
        return found

    async def _lock(self, lock_id: str) -> Lock | None:
        """Given a lock's id, return it; None if it is gone meanwhile (its owner has removed it) or says nothing."""
        try:
            return read_lock(lock_id, await self._ask(cat_lock_command(self.setting, lock_id)))
        except LookupFailedError:
            return None

    async def _ask(self, command: Command) -> bytes:
        try:
            answer = await capture(command, within=self.within, stop_signal=stop_signal(self.version))
        except ManagerError as error:
            raise LookupFailedError(error.message) from None
        if answer.timed_out:
            raise LookupFailedError(f"restic did not answer within {self.within:g} s.")
        if answer.exit.code != 0:
            raise LookupFailedError(f"restic said: {self._why(answer)}")
        return answer.stdout

    def _why(self, answer: Captured) -> str:
        said = [text for text in (clean_text(line) for line in answer.stderr) if text]
        text = said[-1] if said else f"nothing (exit code {answer.exit.code}, signal {answer.exit.signal})"
        if text.startswith("{"):
            message = _decode(text.encode(), dict).get("message")
            text = clean(" ".join(str(message or text).split()))
        return cut(self.redact(text), 500)


def _decode(answer: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(answer, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        shown = cut(clean_text(answer[:1_000]), 200)
        raise LookupFailedError(f"restic's answer makes no sense: {shown!r}") from None
