"""TLS over a connection that stands: at the server a few handshakes at a time, at the client a pin or the system's CAs.

Decides how long a handshake may take, what is said of one that fails, and whom a client believes. It refuses to know
where certificates are kept, and what goes over a connection afterwards.

A storm of newcomers must not hold up those who are in: the costly part of a handshake (from the client's first bytes to
our answer) is done a few at a time, in the order in which they came. Who says nothing, or stalls, holds no such place.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import trio

from restic_manager.protocol.jointoken import pin_of
from restic_manager.runtime.trust import client_context

HANDSHAKE_SECONDS: Final = 10.0
"""How long a client may take for its handshake, waiting for its turn included."""
AT_ONCE: Final = 8
_LAST_WORDS_SECONDS: Final = 1.0

TlsStream = trio.SSLStream[trio.abc.Stream]


class HandshakeError(Exception):
    """No TLS with this peer; the message says why. plain: it spoke no TLS at all."""

    def __init__(self, message: str, *, plain: bool = False) -> None:
        super().__init__(message)
        self.plain = plain


class WrongCertificateError(HandshakeError):
    """The server is there and speaks TLS, and it is not the one that was expected. pin: what it showed, if pinned."""

    def __init__(self, message: str, *, pin: str | None = None) -> None:
        super().__init__(message)
        self.pin = pin


class Gatekeeper:
    """The server's side: TLS with whoever connects. `context` is asked for each connection anew: it may change."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        *,
        seconds: float = HANDSHAKE_SECONDS,
        at_once: int = AT_ONCE,
        plain_words: bytes = b"",
    ) -> None:
        """plain_words: what somebody gets who speaks HTTP without TLS."""
        self._context = context
        self._seconds = seconds
        self._turns = trio.Semaphore(at_once)
        self._plain_words = plain_words

    async def secure(self, stream: trio.abc.Stream) -> TlsStream:
        """Given an accepted connection, return it with TLS over it; raise HandshakeError. Then it is closed."""
        waiting = _TakingTurns(stream, self._turns)
        secured: TlsStream = trio.SSLStream(waiting, self._context(), server_side=True, https_compatible=True)
        try:
            with trio.fail_after(self._seconds):
                await secured.do_handshake()
        except trio.TooSlowError:
            await trio.aclose_forcefully(stream)
            raise HandshakeError(f"no TLS handshake within {self._seconds:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ssl.SSLError) as error:
            failure = _failure(error)
            with trio.move_on_after(_LAST_WORDS_SECONDS):
                await self._tell(stream, failure)
            await trio.aclose_forcefully(stream)
            raise failure from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        finally:
            waiting.done()
        secured.transport_stream = stream  # from here on nobody waits for a turn
        return secured

    async def _tell(self, stream: trio.abc.Stream, failure: HandshakeError) -> None:
        """Answer one that spoke plain HTTP in its own tongue, and let it read that before the connection goes."""
        if not failure.plain or not self._plain_words:
            return
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            await stream.send_all(self._plain_words)
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
            while await stream.receive_some(65_536):
                pass


class _TakingTurns(trio.abc.Stream):
    """The connection under a handshake: what comes first is handed on when it is its turn, until it was answered."""

    __slots__ = ("_had_turn", "_holds", "_stream", "_turns")

    def __init__(self, stream: trio.abc.Stream, turns: trio.Semaphore) -> None:
        self._stream = stream
        self._turns = turns
        self._holds = False
        self._had_turn = False

    def done(self) -> None:
        if self._holds:
            self._holds = False
            self._turns.release()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.done()
        data = await self._stream.receive_some(max_bytes)
        if data and not self._had_turn:
            self._had_turn = True
            await self._turns.acquire()
            self._holds = True
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.done()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        self.done()
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.done()
        await self._stream.aclose()


async def secure_client(stream: trio.abc.Stream, host: str, pins: Sequence[str]) -> TlsStream:
    """Given a connection to this host and the pins it may show, return it with TLS over it.

    With pins the certificate has to be one of these, whoever signed it and whatever it says; without, one that the
    system's CAs vouch for, for this host. Nothing but the handshake was sent when WrongCertificateError is raised;
    HandshakeError for what is no TLS. Then the connection is closed.
    """
    context = client_context(pinned=bool(pins))
    secured: TlsStream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
        if pins:
            _check_pin(secured.getpeercert(binary_form=True), pins)
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ssl.SSLError) as error:
        await trio.aclose_forcefully(stream)
        raise _failure(error) from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


async def certificate_pin(stream: trio.abc.Stream, host: str) -> str:
    """Given a connection to this host, return the pin of the certificate it shows, for what that is worth; close it.

    Raise HandshakeError for what is no TLS.
    """
    secured: TlsStream = trio.SSLStream(
        stream, client_context(pinned=True), server_hostname=host, https_compatible=True
    )
    try:
        await secured.do_handshake()
        return pin_of(secured.getpeercert(binary_form=True) or b"")
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ssl.SSLError) as error:
        raise _failure(error) from error
    finally:
        await trio.aclose_forcefully(stream)


def _check_pin(certificate: bytes | None, pins: Sequence[str]) -> None:
    shown = pin_of(certificate or b"")
    if shown not in pins:
        raise WrongCertificateError(
            f"its certificate's pin is {shown}, and expected is {' or '.join(pins)}: either somebody is in between, or "
            "the server has another certificate now. Compare with `restic-manager server cert show` on the server; if "
            "that shows the new pin, run `restic-manager host invite NAME` there and start this agent with the new "
            "token",
            pin=shown,
        )


def _failure(error: BaseException) -> HandshakeError:
    """Given what a handshake ended with, return what to say of it."""
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return WrongCertificateError(
            f"the system's CAs do not vouch for its certificate ({cause.verify_message.rstrip('.')}): a server with a "
            "certificate of its own is known by the pin in the join token: run `restic-manager host invite NAME` there "
            "and start this agent with the new token"
        )
    if not isinstance(cause, ssl.SSLError):
        return HandshakeError("it hung up during the TLS handshake")
    reason = (cause.reason or "").upper()
    if reason in {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}:
        return HandshakeError("it spoke HTTP without TLS: its URL has to begin with wss://", plain=True)
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}:
        return HandshakeError("what it sent is no TLS")
    if isinstance(cause, ssl.SSLEOFError):
        return HandshakeError("it hung up during the TLS handshake")
    return HandshakeError(f"the TLS handshake failed: {reason.replace('_', ' ').lower() or type(cause).__name__}")
