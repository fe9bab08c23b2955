"""The agents' door: who is let in, and the crash barrier round each connection.

Whatever a peer sends, its connection ends with a code and one log line, and every other session goes on. Before it has
said a good hello a connection is one of a limited number and has little time. It refuses to know what a session does
(`sessions`).
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio
from sqlalchemy import Connection

from restic_manager.domain.errors import StorageError
from restic_manager.link import AGENT_PATH, ANNOUNCE_PATH, Admission, Knock, Link, LinkClosed, answer, http_refusal
from restic_manager.protocol import codec
from restic_manager.protocol.messages import Join, Joined, Refused
from restic_manager.protocol.session import judge_version
from restic_manager.runtime.seldom import Seldom
from restic_manager.runtime.tls import Gatekeeper, HandshakeError
from restic_manager.server import announcing
from restic_manager.server.newcomers import Newcomer, Newcomers
from restic_manager.server.peers import network_of
from restic_manager.server.services import Services
from restic_manager.server.sessions import HELLO_SECONDS, HostSessions, first_message, turn_away
from restic_manager.server.store import grants, hosts
from restic_manager.server.store.hosts import HostRow

logger = logging.getLogger(__name__)

BUSY_SECONDS: Final = 5
"""When an agent that is turned away for coming too often is to try again."""
DRAIN_SECONDS: Final = 5.0
"""How long sessions have to end when the server stops."""


@dataclass(frozen=True)
class _Visitor:
    """Whom the bearer token speaks for: a host that has joined, or (host None) somebody with a join token's hash, or
    (with no bearer at all) a machine that announces itself.
    """

    token_sha256: str | None
    host: HostRow | None


class AgentsDoor:
    """Lets agents in. `serve` is its task."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = HostSessions(services)
        self._gatekeeper = _gatekeeper(services)
        self._newcomers = Newcomers(by_network=not services.config.behind_proxy)
        self._turned_away = Seldom(logger)
        self._open = 0
        self._draining = False
        self._closed = trio.Event()

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Given listeners, answer every connection, for ever. Cancelled, it ends every link with 1001."""
        async with trio.open_nursery() as connections:
            await trio.serve_listeners(self.handle, listeners, handler_nursery=connections, task_status=task_status)

    async def drain(self) -> None:
        """The server stops: let nobody in any more, and end every session with a goodbye and 1001. Bounded."""
        self._draining = True
        self._services.hub.close_all("the server stops")
        with trio.move_on_after(DRAIN_SECONDS):
            while self._open > self._newcomers.here:  # who has not said hello is owed nothing
                self._closed = trio.Event()
                await self._closed.wait()

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Given an accepted connection, live its life. Raises nothing but cancellation."""
        remote = _remote(stream)
        newcomer = self._newcomers.enter(network_of(remote.rpartition(":")[0]), trio.current_time())
        if isinstance(newcomer, str):
            self._turned_away.say(logging.WARNING, "agents' door: %s closed: %s", remote, newcomer)
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        greeted = _Once(lambda: self._newcomers.leave(newcomer, trio.current_time()))
        try:
            if self._gatekeeper is not None:
                stream = await self._gatekeeper.secure(stream)
            admit = functools.partial(self._admit, newcomer)
            async with answer(stream, admit=admit, remote=remote, handshake_timeout=HELLO_SECONDS) as answered:
                if answered is None:
                    return
                visitor, link = answered
                if visitor.token_sha256 is None:
                    await announcing.meet(self._services, link)
                elif visitor.host is None:
                    await self._join(visitor.token_sha256, link)
                else:
                    await self._sessions.meet(visitor.host, visitor.token_sha256, link, greeted)
        except* HandshakeError as group:
            logger.info("agents' door: %s: %s", remote, _first(group))
        except* LinkClosed as group:
            logger.info("agents' door: %s is gone (%s)", remote, _first(group))
        except* StorageError as group:
            logger.warning("agents' door: %s sent away: %s", remote, _first(group))
        except* Exception:
            logger.exception("agents' door: %s failed", remote)
        finally:
            greeted()
            self._open -= 1
            self._closed.set()

    async def _admit(self, newcomer: Newcomer, knock: Knock) -> Admission[_Visitor]:
        admission = await self._whom(knock)
        if isinstance(admission, Refused):
            return admission
        visitor, _ = admission
        if visitor.token_sha256 is None:
            return admission  # it speaks for nobody yet: its network's share is all there is
        # A host joins anew with another credential: it is not to wait for what was tried with the old one.
        why = self._newcomers.speaks_for(newcomer, visitor.token_sha256, trio.current_time())
        if why is not None:
            return Refused(code="busy", message=f"{why}: try again", retry=True, retry_after=BUSY_SECONDS)
        return admission

    async def _whom(self, knock: Knock) -> Admission[_Visitor]:
        if self._draining:
            return Refused(code="draining", message="the server stops: try again", retry=True, retry_after=5)
        if knock.path == ANNOUNCE_PATH:
            return _Visitor(None, None), codec.announce_request
        if knock.bearer is None:
            return Refused(code="unknown", message="no credential: an agent sends `Authorization: Bearer …`")
        digest = hashlib.sha256(knock.bearer.encode("utf-8", errors="surrogatepass")).hexdigest()
        if knock.path != AGENT_PATH:
            now = self._services.clock.now()
            invited = await self._services.store.read(lambda tx: hosts.admit_token(tx, digest, now))
            return invited if isinstance(invited, Refused) else (_Visitor(digest, None), codec.join_request)
        host = await self._services.store.read(lambda tx: hosts.admit_credential(tx, digest))
        return host if isinstance(host, Refused) else (_Visitor(digest, host), codec.from_agent)

    async def _join(self, token_sha256: str, link: Link) -> None:
        message = await first_message(link)
        if not isinstance(message, Join):
            await turn_away(link, message)
            return
        said: Joined | Refused | None = judge_version(message.protocol)
        if said is None:
            now = self._services.clock.now()

            def join(tx: Connection) -> Joined | Refused:
                answer = hosts.redeem(tx, token_sha256, message.credential_sha256, now)
                if isinstance(answer, Refused):
                    return answer
                return grants.with_places(tx, answer, token_sha256, unseal=self._services.sealer.unseal)

            said = await self._services.store.write(join)
        if isinstance(said, Joined):
            # Its earlier credential died with this: whoever still uses it is another process, or a stolen copy.
            self._services.hub.close(said.host_id, "this host has joined again with a new credential")
            logger.info("agents' door: %s joined as %s", link.remote, said.host_name)
        else:
            logger.info("agents' door: %s may not join: %s", link.remote, said.message)
        link.put(said)


def _gatekeeper(services: Services) -> Gatekeeper | None:
    """Return who speaks TLS with newcomers; None where nobody does, and connections are taken as they come."""
    tls = services.tls
    if tls is None or services.config.tls.mode == "off":
        return None
    told = Refused(code="tls_needed", message="this server speaks TLS: its URL has to begin with wss://")
    return Gatekeeper(lambda: tls.context(services.clock.now()), plain_words=http_refusal(told))


class _Once:
    """Calls a function at most once."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def _remote(stream: trio.abc.Stream) -> str:
    if isinstance(stream, trio.SocketStream):
        try:
            name = stream.socket.getpeername()
        except OSError:
            return "a connection already gone"
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
    return "a stream"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
