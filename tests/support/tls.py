"""Certificates for tests, and somebody in between. One that is only named is made once a process."""

from __future__ import annotations

import functools
import ipaddress
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from restic_manager.runtime.tls import Gatekeeper
from restic_manager.server.certificates import OwnCertificate

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@functools.cache
def own_certificate(name: str) -> OwnCertificate:
    """Given any name, return a server's own certificate; the same for the same name."""
    with tempfile.TemporaryDirectory() as folder:
        del name
        return OwnCertificate(Path(folder), now=NOW)


def gatekeeper(name: str) -> Gatekeeper:
    """Given a certificate's name, return who speaks TLS by it."""
    return Gatekeeper(lambda: own_certificate(name).context(NOW))


def write_pair(folder: Path, *, begins: datetime, ends: datetime, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """Write a certificate for an address, signed by itself, and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    certificate, key_file = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key_file


def good_pair(folder: Path) -> tuple[Path, Path]:
    """Write a certificate that holds now."""
    now = datetime.now(UTC)
    return write_pair(folder, begins=now - timedelta(days=1), ends=now + timedelta(days=1))


class Meddler:
    """Somebody in between: has a certificate of his own, and keeps all that is said to him after the handshake."""

    def __init__(self, name: str = "somebody else's") -> None:
        self.certificate = own_certificate(name)
        self.port = 0
        self.met = 0
        self.heard = b""
        self.calls = trio.Event()

    async def _meet(self, stream: trio.SocketStream) -> None:
        async with stream:
            secured = await Gatekeeper(lambda: self.certificate.context(NOW)).secure(stream)
            self.met += 1
            try:
                while data := await secured.receive_some(65_536):
                    self.heard += bytes(data)
            except trio.BrokenResourceError:
                pass  # hung up without a word, as it should
            finally:
                self.calls.set()


@asynccontextmanager
async def meddling(port: int = 0) -> AsyncIterator[Meddler]:
    """Yield somebody who answers at a port in the server's place, until the block ends."""
    meddler = Meddler()
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    meddler.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_listeners, meddler._meet, listeners))
        yield meddler
        nursery.cancel_scope.cancel()
