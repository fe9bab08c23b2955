"""Becoming a host without a token: show a key, wait until somebody approves it. Owns the file of a machine that waits.

Key and credential are made together and are on disk before anybody hears of them; each try is a short connection of
its own. So a crash at any point, of either side, costs nothing. It refuses to know what the server makes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import msgspec
import trio

from restic_manager import __version__
from restic_manager.agent import facts
from restic_manager.agent.identity import (
    Identity,
    IdentityFiles,
    backoff,
    duration_text_of,
    new_credential,
    read_private,
    sha256_hex,
)
from restic_manager.domain.errors import RefusedError, StorageError, UnreachableError, UntrustedError
from restic_manager.link import Link, LinkClosed
from restic_manager.protocol.announcing import base32, fingerprint_of, signed_bytes
from restic_manager.protocol.messages import PROTOCOL_VERSION, Announce, Announced, Challenge, Joined, Refused
from restic_manager.protocol.session import refusal_error
from restic_manager.runtime.datadir import atomic_write
from restic_manager.runtime.signing import make_key, public_key, sign

logger = logging.getLogger(__name__)

DialAnnounce = Callable[[], AbstractAsyncContextManager[Link]]
"""Dial the server's `/announce`; only a server that has the pin, where one is given."""

FILE: Final = "agent-announcing.json"
_ANSWER_WITHIN: Final = 30.0


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine that waits has made: its key, and the credential it will have. No readable repr."""

    private_key: bytes
    credential: str

    def __repr__(self) -> str:
        """Name the key as people do, tell no secret."""
        return f"Waiting({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """By which people know the key."""
        return fingerprint_of(public_key(self.private_key))


class WaitingFile:
    """The file in the data directory, 0600, that is there from the first announcement until the join is stored."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE

    def load_or_make(self) -> Waiting:
        """Return what an earlier start has made, or make it; raise StorageError."""
        raw = read_private(self._path)
        if raw is not None:
            try:
                waiting = msgspec.json.decode(raw, type=Waiting)
                public_key(waiting.private_key)
            except (msgspec.DecodeError, ValueError):
                raise StorageError(
                    f"{self._path} is damaged: remove it, and this machine announces itself by a new key"
                ) from None
            return waiting
        waiting = Waiting(private_key=make_key(), credential=new_credential())
        atomic_write(self._path, msgspec.json.encode(waiting))
        return waiting

    def forget(self) -> None:
        """Remove it: what was in it is the identity now, or good for nothing."""
        self._path.unlink(missing_ok=True)


async def announce(
    files: IdentityFiles,
    waiting_file: WaitingFile,
    dial: DialAnnounce,
    *,
    pins: tuple[str, ...],
    say: Callable[[str], object],
    reconnect_max: float,
) -> Identity:
    """Given where to keep things, how to dial and the pins of the server's certificate (none where the system's CAs
    decide), return this host's identity as soon as somebody has approved it.

    say: tells the person who started it what to compare. Raise RefusedError when the server says no for good,
    UntrustedError when no pin was given and the system's CAs do not vouch for who answers, and StorageError. While it
    cannot be reached, and while nobody decides, it tries again, for ever.
    """
    waiting = waiting_file.load_or_make()
    say(_words(waiting.fingerprint, pins))
    attempt = 0
    while True:
        try:
            said = await _once(waiting, dial, pins)
        except RefusedError as refusal:
            if not refusal.retry:
                if refusal.code == "revoked":
                    waiting_file.forget()  # its credential is dead: whoever starts this again begins anew
                raise
            pause = refusal.retry_after + backoff(attempt, reconnect_max)
            logger.warning("announcing: %s; next try in %s", refusal.message, duration_text_of(pause))
        except UntrustedError as error:
            if not pins:
                raise  # who that is nobody has said: the person who started it has to
            pause = backoff(attempt, reconnect_max)
            logger.error("announcing: %s; next try in %s", error.message, duration_text_of(pause))  # noqa: TRY400 - the message says it all
        except (UnreachableError, LinkClosed) as error:
            pause = backoff(attempt, reconnect_max)
            logger.warning("announcing: %s; next try in %s", error, duration_text_of(pause))
        else:
            if isinstance(said, Joined):
                identity = Identity(
                    host_id=said.host_id,
                    host_name=said.host_name,
                    credential=waiting.credential,
                    token_sha256="",
                    pins=pins,
                    repositories=said.repositories,
                )
                files.store(identity)
                waiting_file.forget()
                logger.info("approved: this is host %s", identity.host_name)
                return identity
            if attempt:
                logger.info("the server is there again: waiting for approval")
            attempt, pause = -1, float(said.retry_after)
        await trio.sleep(pause)
        attempt += 1


async def _once(waiting: Waiting, dial: DialAnnounce, pins: tuple[str, ...]) -> Joined | Announced:
    async with dial() as link:
        with trio.move_on_after(_ANSWER_WITHIN):
            challenge = (await link.receive()).message
            if isinstance(challenge, Refused):
                raise refusal_error(challenge)
            if not isinstance(challenge, Challenge):
                raise UnreachableError(f"the server began with {type(challenge).__name__}, not with a challenge")
            # Dialled with these pins the certificate has one of them; with several it is not known here which.
            await link.send(_signed(waiting, challenge.nonce, pins[0] if len(pins) == 1 else None))
            match (await link.receive()).message:
                case Joined() | Announced() as said:
                    return said
                case Refused() as refused:
                    raise refusal_error(refused)
                case other:
                    raise UnreachableError(f"the server answered an announcement with {type(other).__name__}")
    raise UnreachableError(f"the server did not answer the announcement within {_ANSWER_WITHIN:g} s")


def _signed(waiting: Waiting, nonce: str, pin: str | None) -> Announce:
    announce = Announce(
        protocol=PROTOCOL_VERSION,
        agent_version=__version__,
        public_key=base32(public_key(waiting.private_key)),
        credential_sha256=sha256_hex(waiting.credential),
        name=facts.machine(),
        os=facts.operating_system(),
        pin=pin,
        signature="",
    )
    signature = sign(waiting.private_key, signed_bytes(announce, nonce))
    return msgspec.structs.replace(announce, signature=base32(signature))


def _words(fingerprint: str, pins: tuple[str, ...]) -> str:
    server = f"the server's certificate has the pin   {' or '.join(pins)}\n" if pins else ""
    return (
        f"this machine's key has the fingerprint {fingerprint}\n{server}"
        f"it waits: if `restic-manager host pending` on the server shows the same, run there:\n"
        f"  restic-manager host approve {fingerprint}\n"
    )
