"""The server's certificate: its own, made once and changed with an overlap, or one that an administrator gave.

Owns the two files of its own certificates in the data directory and decides which of them is shown when. While one
follows another, agents that connect learn the pin of the next; from the day set on it is the one that is shown. It
refuses to know sessions and doors: both doors ask `context` for each connection. `cryptography` is imported when first
needed. Whoever makes one holds the lock of the data directory.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from restic_manager.domain.errors import ConflictError, InputError, StorageError
from restic_manager.domain.instants import instant_text, parse_instant
from restic_manager.protocol.jointoken import pin_of
from restic_manager.runtime.datadir import atomic_write, storage_error, sync_folder
from restic_manager.runtime.trust import server_context
from restic_manager.server.places import CERTIFICATE, NEXT_CERTIFICATE

if TYPE_CHECKING:
    from cryptography import x509

logger = logging.getLogger(__name__)

_LIFETIME: Final = timedelta(days=20 * 365)
"""Of a certificate that is known by its pin: nobody looks at its dates, so that no fleet stops on one day."""
_EARLIER: Final = timedelta(days=2)
"""Clocks differ: a certificate holds from before it was made."""
_FROM: Final = "shown from "
_LONGEST: Final = 1 << 20


@dataclass(frozen=True)
class Certificate:
    """One key pair and its certificate, ready to be shown. shown_from: None for the one in force since ever."""

    pin: str
    subject: str
    not_before: datetime
    not_after: datetime
    context: ssl.SSLContext
    shown_from: datetime | None = None


class GivenCertificate:
    """A certificate that the system's CAs vouch for: hosts need no pin. Files that were renewed are read again.

    What has come in their place is shown if it can be used; if not, that is said once and the one before is shown
    further: both files are rarely written in one moment.
    """

    mode: Final = "given"
    pins: Final[tuple[str, ...]] = ()

    def __init__(self, certificate: Path, key: Path, *, now: datetime) -> None:
        """Given the files, read them; raise InputError as `load_given` says."""
        self._files = (certificate, key)
        self._stamp = self._look()
        self._certificate = _load_given(certificate, key, now=now)

    def now(self, at: datetime) -> tuple[Certificate, Certificate | None]:
        """Given an instant, return the certificate shown then, and the one that comes after it: none."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._certificate = _load_given(*self._files, now=at)
            except InputError as error:
                logger.warning("the certificate's files have changed; the one before is shown further: %s", error)
            else:
                logger.info("the certificate was renewed: it holds until %s", instant_text(self._certificate.not_after))
        return self._certificate, None

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what is different after a file was written or put in another's place."""
        return tuple(_stamp_of(path) for path in self._files)

    def context(self, at: datetime) -> ssl.SSLContext:
        """Given an instant, return what a connection made then is served with."""
        return self.now(at)[0].context

    def pins_at(self, at: datetime) -> tuple[str, ...]:
        """Given an instant, return the pins hosts have to know: none."""
        del at
        return ()


class OwnCertificate:
    """The server's own certificate in a data directory, and the next one while they overlap."""

    mode: Final = "auto"

    def __init__(self, data_dir: Path, *, now: datetime) -> None:
        """Given a data directory, read its certificates, or make the first; raise StorageError for damaged ones."""
        self._path = data_dir / CERTIFICATE
        self._next_path = data_dir / NEXT_CERTIFICATE
        self.made_anew = False
        """Whether there was none, and it was made just now."""
        coming = _load_own(self._next_path) if self._next_path.exists() else None
        if coming is not None and not self._path.exists():
            self._current, self._next = coming, None
            return
        if not self._path.exists():
            atomic_write(self._path, _make(now))
            self.made_anew = True
        self._current = _load_own(self._path)
        self._next = None if coming is None or coming.pin == self._current.pin else coming

    def now(self, at: datetime) -> tuple[Certificate, Certificate | None]:
        """Given an instant, return the certificate shown then and the one that comes after it, if one does."""
        coming = self._next
        if coming is None or (coming.shown_from is not None and at < coming.shown_from):
            return self._current, coming
        return coming, None

    def context(self, at: datetime) -> ssl.SSLContext:
        """Given an instant, return what a connection made then is served with."""
        return self.now(at)[0].context

    def pins_at(self, at: datetime) -> tuple[str, ...]:
        """Given an instant, return the pins hosts have to know: the one shown, and the one to come."""
        shown, coming = self.now(at)
        return (shown.pin,) if coming is None else (shown.pin, coming.pin)

    def rotate(self, at: datetime, overlap: timedelta) -> None:
        """Given an instant and how long both pins hold, make the next certificate; raise ConflictError while one waits
        already, StorageError when it cannot be written.
        """
        waiting = self.now(at)[1]
        if waiting is not None:
            raise ConflictError(
                f"the certificate is being changed already, until {instant_text(waiting.shown_from or at)}: "
                "`restic-manager server cert rotate --finish` ends that now"
            )
        if self._next is not None:  # its day has come: it is the one the next follows
            self._take(self._next)
        shown_from = (at + overlap).replace(microsecond=0)
        atomic_write(self._next_path, f"{_FROM}{instant_text(shown_from)}\n".encode("ascii") + _make(at))
        self._next = _load_own(self._next_path)

    def finish(self, at: datetime) -> None:
        """Show the next certificate from now on; raise ConflictError if there is none, StorageError."""
        waiting = self.now(at)[1]
        if waiting is None:
            raise ConflictError("no certificate is waiting to be shown: `restic-manager server cert rotate` makes one")
        self._take(waiting)

    def _take(self, coming: Certificate) -> None:
        try:
            self._next_path.replace(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise storage_error(error, str(self._path)) from error
        self._current, self._next = coming, None


ServerCertificate = OwnCertificate | GivenCertificate


def load_given(certificate: Path, key: Path, *, now: datetime) -> GivenCertificate:
    """Given the files of a certificate (its chain after it) and its key, both PEM, return it.

    Raise InputError naming file and remedy: one is missing or cannot be read, is no PEM, they do not belong together,
    it has expired or does not hold yet.
    """
    return GivenCertificate(certificate, key, now=now)


def _load_given(certificate: Path, key: Path, *, now: datetime) -> Certificate:
    pem = _read_given(certificate, "--tls-cert", "the certificate and the chain after it, as PEM")
    _read_given(key, "--tls-key", "its private key, as PEM without a passphrase")
    found = _parse(pem)
    if found is None:
        raise InputError(
            f"--tls-cert: {certificate} holds no certificate: name the file that begins with "
            "-----BEGIN CERTIFICATE-----"
        )
    if now >= found.not_valid_after_utc:
        raise InputError(
            f"--tls-cert: the certificate in {certificate} expired on {instant_text(found.not_valid_after_utc)}: "
            "renew it"
        )
    if now < found.not_valid_before_utc:
        raise InputError(
            f"--tls-cert: the certificate in {certificate} holds only from {instant_text(found.not_valid_before_utc)} "
            "on: set this machine's clock right, or name another"
        )
    context = server_context()
    try:
        context.load_cert_chain(certificate, key, password=b"")  # or OpenSSL would ask for one at the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(
                f"--tls-key: the key in {key} is not that of the certificate in {certificate}: name the two files that "
                "belong together"
            ) from None
        raise InputError(
            f"--tls-key: {certificate} and {key} cannot be used ({error.reason or error}): the key has to be PEM "
            "without a passphrase"
        ) from None
    return _certificate(found, context)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # on its way, or gone: reading it says more
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_given(path: Path, flag: str, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise InputError(
            f"{flag}: {path} cannot be read ({error.strerror}): it has to hold {what}, and this user has to be allowed "
            "to read it"
        ) from None


def _load_own(path: Path) -> Certificate:
    remedy = (
        "put it back from your copy; without one, move it away: the server makes another, and every host has to be "
        "invited again"
    )
    try:
        with path.open("rb") as file:
            mode, raw = os.fstat(file.fileno()).st_mode, file.read(_LONGEST)
        if mode & 0o077:
            raise StorageError(
                f"{path} has mode {stat.S_IMODE(mode):04o}, so that others may read the server's TLS key: run chmod "
                f"600 {path}, and `restic-manager server cert rotate` if somebody has",
                code="storage_key",
            )
        context = server_context()
        context.load_cert_chain(path, password=b"")
    except ssl.SSLError as error:
        raise StorageError(f"{path} is damaged ({error.reason}): {remedy}", code="storage_damaged") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", code="storage_key") from error
    found = _parse(raw)
    if found is None:
        raise StorageError(f"{path} is damaged: {remedy}", code="storage_damaged")
    first = raw.partition(b"\n")[0].decode("ascii", "replace")
    shown_from = None
    if first.startswith(_FROM):
        try:
            shown_from = parse_instant(first.removeprefix(_FROM))
        except InputError:
            raise StorageError(f"{path} is damaged, its first line: {remedy}", code="storage_damaged") from None
    return _certificate(found, context, shown_from)


def _parse(pem: bytes) -> x509.Certificate | None:
    """Return the first certificate in it, None for none."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def _certificate(found: x509.Certificate, context: ssl.SSLContext, shown_from: datetime | None = None) -> Certificate:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Certificate(
        pin=pin_of(found.public_bytes(Encoding.DER)),
        subject=found.subject.rfc4514_string(),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        context=context,
        shown_from=shown_from,
    )


def _make(now: datetime) -> bytes:
    """Return a new P-256 key and a certificate it signed itself, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "restic-manager server")])
    begins = now.astimezone(UTC).replace(microsecond=0) - _EARLIER
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("restic-manager")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
