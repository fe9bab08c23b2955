"""Which TLS a door needs, from where it listens and what its administrator said. Pure; opens and binds nothing.

On loopback a door needs none, beyond it it always has some: its own certificate unless something else was said. Only
what stands behind a proxy that speaks TLS for it may go without.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from restic_manager.domain.errors import InputError

Mode = Literal["off", "auto", "given"]


@dataclass(frozen=True)
class TlsChoice:
    """off: none; auto: the server's own certificate, known by its pin; given: these two files, known by the CAs."""

    mode: Mode = "off"
    certificate: Path | None = None
    key: Path | None = None


NO_TLS: Final = TlsChoice()


def choose_tls(
    listen_host: str, *, tls: str | None, certificate: str | None, key: str | None, behind_proxy: bool
) -> TlsChoice:
    """Given where a door listens and what was said, return its TLS; raise InputError for what contradicts itself."""
    if (certificate is None) != (key is None):
        there, missing = ("--tls-cert", "--tls-key") if key is None else ("--tls-key", "--tls-cert")
        raise InputError(f"{there} without {missing}: a certificate needs both files, name them both")
    if tls is not None and certificate is not None:
        raise InputError(
            f"--tls {tls} and --tls-cert: say only one of them (--tls-cert alone is TLS by that certificate)"
        )
    if certificate is not None and key is not None:
        return TlsChoice("given", _absolute(certificate), _absolute(key))
    loopback = is_loopback(listen_host)
    if tls == "auto" or (tls is None and not loopback and not behind_proxy):
        return TlsChoice("auto")
    if not loopback and not behind_proxy:
        raise InputError(
            f"--tls off: {listen_host} can be reached from other machines, and tokens and secrets would go over the "
            "network in clear: leave --tls out (the server makes its own certificate), name one with --tls-cert and "
            "--tls-key, or say --behind-proxy where a proxy speaks TLS for it"
        )
    return NO_TLS


def check_mode(text: str) -> str:
    """Given what stands for --tls, return it; raise InputError."""
    if text not in {"auto", "off"}:
        raise InputError(f"{text!r} is neither auto nor off (a certificate of your own: --tls-cert and --tls-key)")
    return text


def is_loopback(host: str) -> bool:
    """Given a host as in HOST:PORT, return whether only this machine reaches it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()
