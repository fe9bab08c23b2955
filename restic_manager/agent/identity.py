"""Who this host is to its server. Owns the credential file and the join; knows nothing of schedules and jobs.

Joining survives a crash at any point: the credential is made and fsynced before the server hears its hash, and the same
token with the same hash gets the same answer until it expires. On a rejoin the old credential stays in use until the
server has taken the new one.
"""

from __future__ import annotations

import hashlib
import logging
import random
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import msgspec
import trio

from restic_manager import __version__
from restic_manager.domain.errors import InputError, RefusedError, StorageError, UnreachableError, UntrustedError
from restic_manager.domain.instants import duration_text
from restic_manager.link import Link, LinkClosed
from restic_manager.protocol.jointoken import JoinToken
from restic_manager.protocol.messages import PROTOCOL_VERSION, Join, Joined, Refused
from restic_manager.protocol.session import refusal_error
from restic_manager.runtime.datadir import atomic_write

logger = logging.getLogger(__name__)

DialJoin = Callable[[JoinToken], AbstractAsyncContextManager[Link]]
"""Given the join token, dial the server's `/join`: with the token as bearer, and only a server that has its pins."""

_ANSWER_WITHIN: Final = 30.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the server knows this host as, and this host the server. Holds the credential: no readable repr.

    pins: of the server's certificate, any of which it may show; none where the system's CAs decide. next_credential:
    made, and perhaps known to the server, and not used yet. former_credential: what was used before the last rotation.
    repositories: the places of those that the join brought.
    """

    host_id: str
    host_name: str
    credential: str
    token_sha256: str
    pins: tuple[str, ...] = ()
    next_credential: str | None = None
    former_credential: str | None = None
    repositories: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name the host, never its credential."""
        return f"Identity({self.host_name!r})"


class _Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A credential on its way: kept until the server has answered the join with this token."""

    credential: str
    token_sha256: str


def new_credential() -> str:
    """Return a credential that nobody has heard of."""
    return "rmc1-" + secrets.token_urlsafe(32)


def sha256_hex(text: str) -> str:
    """Given a token or credential, return the SHA-256 the server stores of it."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class IdentityFiles:
    """The two files in the data directory, both 0600: the identity, and a candidate while a join is under way."""

    def __init__(self, data_dir: Path) -> None:
        self._identity = data_dir / "agent-identity.json"
        self._candidate = data_dir / "agent-identity.joining.json"

    def load(self) -> Identity | None:
        """Return the identity, or None before the first join; raise StorageError if the file is damaged."""
        raw = read_private(self._identity)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=Identity)
        except msgspec.DecodeError as error:
            raise StorageError(
                f"{self._identity} is damaged ({error}): restore it, or invite this host again and start the agent "
                "with the new token"
            ) from None

    def candidate_for(self, token_sha256: str) -> str:
        """Given a token's hash, return the credential to join with: that of an earlier try, or a fresh one."""
        raw = read_private(self._candidate)
        if raw is not None:
            try:
                earlier = msgspec.json.decode(raw, type=_Candidate)
            except msgspec.DecodeError:
                earlier = None  # torn by a crash before it was used: it was never told to anybody
            if earlier is not None and earlier.token_sha256 == token_sha256:
                return earlier.credential
        credential = new_credential()
        candidate = _Candidate(credential=credential, token_sha256=token_sha256)
        atomic_write(self._candidate, msgspec.json.encode(candidate))
        return credential

    def store(self, identity: Identity) -> None:
        """Make this the identity, and forget the candidate it came from."""
        atomic_write(self._identity, msgspec.json.encode(identity))
        self.forget_candidate()

    def forget_candidate(self) -> None:
        """Remove the candidate: it is the identity now."""
        self._candidate.unlink(missing_ok=True)


async def establish(files: IdentityFiles, token: JoinToken | None, dial: DialJoin, *, reconnect_max: float) -> Identity:
    """Given the token on the command line, if any, return this host's identity, joining first if that is needed.

    Raise InputError if there is neither an identity nor a token, RefusedError if the server refuses the token and there
    is no identity to go on with. While the server cannot be reached it tries again, for ever, with growing pauses.
    """
    known = files.load()
    if token is None:
        if known is None:
            raise InputError(
                "this host has not joined yet: run `restic-manager host invite NAME` on the server and start the agent "
                "with the token it prints"
            )
        return known
    token_sha256 = sha256_hex(token.text)
    if known is not None and known.token_sha256 == token_sha256:
        files.forget_candidate()  # a crash may have left it
        return known  # the token this host joined with: a service file may go on naming it
    credential = files.candidate_for(token_sha256)
    attempt = 0
    while True:
        try:
            joined = await _join(token, credential, dial)
        except RefusedError as refusal:
            if refusal.retry:
                logger.warning("joining: %s; trying again", refusal.message)
            elif known is None:
                raise
            else:
                logger.warning("joining again was refused (%s); going on as host %s", refusal.message, known.host_name)
                return known
        except UntrustedError as error:
            # Nothing was said to it. Who is in between may go away, and then this goes on by itself.
            logger.error("joining: %s; trying again", error.message)  # noqa: TRY400 - the message says it all
        except (UnreachableError, LinkClosed) as error:
            logger.warning("joining: %s; trying again", error)
        else:
            identity = Identity(
                host_id=joined.host_id,
                host_name=joined.host_name,
                credential=credential,
                token_sha256=token_sha256,
                pins=token.pins,
                repositories=joined.repositories,
            )
            files.store(identity)
            logger.info("joined as host %s", identity.host_name)
            return identity
        pause = backoff(attempt, reconnect_max)
        logger.info("next try in %s", duration_text_of(pause))
        await trio.sleep(pause)
        attempt += 1


def joins_with(files: IdentityFiles, token: JoinToken | None) -> bool:
    """Given the token on the command line, if any, return whether this host is still to join, with it or without."""
    known = files.load()
    return known is None or (token is not None and known.token_sha256 != sha256_hex(token.text))


async def _join(token: JoinToken, credential: str, dial: DialJoin) -> Joined:
    async with dial(token) as link:
        await link.send(
            Join(protocol=PROTOCOL_VERSION, agent_version=__version__, credential_sha256=sha256_hex(credential))
        )
        with trio.move_on_after(_ANSWER_WITHIN):
            incoming = await link.receive()
            match incoming.message:
                case Joined() as joined:
                    return joined
                case Refused() as refused:
                    raise refusal_error(refused)
                case other:
                    raise UnreachableError(f"the server answered a join with {type(other).__name__}")
    raise UnreachableError(f"the server did not answer the join within {_ANSWER_WITHIN:g} s")


def backoff(attempt: int, longest: float, *, first: float = 1.0) -> float:
    """Given how many tries failed before, return seconds to wait: full jitter over a doubling span, capped."""
    return spread(min(longest, first * 2.0 ** min(attempt, 30)))


def spread(longest: float, *, least: float = 0.0) -> float:
    """Given seconds, return a random number of them from `least` on: what a fleet does at once comes one by one."""
    return random.uniform(least, longest)  # noqa: S311 - spreads load, guards nothing


def duration_text_of(seconds: float) -> str:
    """Given seconds, return them for a log line: parts of a second only where they matter."""
    from datetime import timedelta

    return f"{seconds:.1f}s" if seconds < 10 else duration_text(timedelta(seconds=seconds))


def read_private(path: Path) -> bytes | None:
    """Given a file of the data directory, return its content, None if it is not there; raise StorageError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
