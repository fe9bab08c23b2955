"""The key that the database's secrets are sealed with: opened at the start, changed while the server runs.

A change is safe against a crash at any point: first the key file holds both keys, then one transaction seals everything
with the new one, then the file holds that alone. A start finishes what was cut off, and that is also how a key that is
kept elsewhere is changed: the new one goes before the old one there. Owns that order; refuses to know what is sealed.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import trio

from restic_manager.domain.errors import ConflictError
from restic_manager.runtime.keyplace import OWN_KEY, KeyChoice
from restic_manager.secrets import Sealer, new_key, open_sealer, read_keys, write_keys
from restic_manager.server.store import identity
from restic_manager.server.store.sealing import seal_anew
from restic_manager.server.store.writer import Change, Store

T = TypeVar("T")
logger = logging.getLogger(__name__)

_AT_A_START: Final = "values were sealed with an older key, and are sealed with the newest now"


class Keys:
    """The keys of one data directory."""

    def __init__(
        self, path: Path, choice: KeyChoice = OWN_KEY, *, sealer: Sealer | None = None, threads: bool = True
    ) -> None:
        """path: our own key file. choice: where the key is, if elsewhere. sealer: of what is there, if that is open.

        threads: False touches the disk at once, for tests in virtual time.
        """
        self._path = path
        self._choice = choice
        self._lock = trio.Lock()
        self._sealer = sealer
        self._threads = threads

    async def open(self, store: Store) -> Sealer:
        """Return the sealer of the key that this database knows; everything is sealed with its newest afterwards.

        A key is made once: for a database that has never had one. Raise StorageError when it is not the right one.
        """
        create = not await store.read(identity.has_key)
        opening = functools.partial(open_sealer, self._path, create=create, choice=self._choice)
        sealer = await self._do(opening)
        await store.write(lambda tx: identity.prove_key(tx, sealer))
        changed = await store.write(lambda tx: seal_anew(tx, sealer))
        if changed:
            logger.info("%d %s", changed, _AT_A_START)
        await self._forget_older()
        if sealer.keys > 1 and not self._choice.own:
            logger.warning("nothing is sealed with the older keys any more: take them out of %s", self._choice.told)
        self._sealer = sealer
        return sealer

    async def rotate(self, store: Store, within: Callable[[Change[int]], Change[int]]) -> int:
        """Make a new key, seal everything with it and forget the old one; return how many values that were.

        within: makes the audit's row part of the change. Raise ConflictError where the key is not ours to change.
        """
        sealer = self._sealer
        if sealer is None or not self._choice.own:
            raise ConflictError(
                f"this server's key is {self._choice.told}: put a new one (`restic-manager server secrets make-key`) "
                "there as the first line, above the old one, and start the server again; then take the old one out"
            )
        async with self._lock:
            if len(await self._do(read_keys, self._path)) > 1:  # an earlier change was cut off
                await store.write(lambda tx: seal_anew(tx, sealer))
                await self._forget_older()
            key = new_key()
            await self._do(self._write, key)
            sealer.take(key)
            changed = await store.write(within(lambda tx: seal_anew(tx, sealer)))
            await self._forget_older()
        logger.info("the key is a new one; %d values are sealed with it", changed)
        return changed

    async def _do(self, work: Callable[..., T], *given: object) -> T:
        return await trio.to_thread.run_sync(work, *given) if self._threads else work(*given)

    def _write(self, key: bytes) -> None:
        write_keys(self._path, [key, *read_keys(self._path)])

    async def _forget_older(self) -> None:
        """Leave only the newest key in our own file."""
        if not self._choice.own:
            return
        newest, *older = await self._do(read_keys, self._path)
        if older:
            await self._do(write_keys, self._path, [newest])
