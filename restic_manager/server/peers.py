"""Who is at the other end of an operators' connection, as far as the connection itself tells. Asks the kernel only.

Over the Unix socket that is a user, and settled; over TCP an address, and who it is a token has to say.
"""

from __future__ import annotations

import ipaddress
import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Final

import trio

SCOPE_KEY: Final = "restic_manager.peer"
"""Where an ASGI scope holds the Peer."""
_CREDENTIALS: Final = struct.Struct("=iII")


@dataclass(slots=True, kw_only=True)
class Peer:
    """user: the name of the socket's user, None over TCP. origin: for people, where it is. network: what shares its
    limits (an address; of IPv6 the /64). admitted: set once somebody with the right to has asked something.
    """

    origin: str
    user: str | None = None
    network: str = ""
    admitted: bool = False


def socket_peer(stream: trio.SocketStream) -> Peer:
    """Given a Unix socket's connection, return who has opened it."""
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(user=_user(uid), origin=f"socket (uid {uid}, process {process})", network="socket", admitted=True)


def tcp_peer(stream: trio.SocketStream) -> Peer:
    """Given a TCP connection, return where it comes from."""
    try:
        text = str(stream.socket.getpeername()[0])
    except OSError:  # it is gone already
        return Peer(origin="unknown address", network="unknown")
    return Peer(origin=text.partition("%")[0], network=network_of(text))


def network_of(address: str) -> str:
    """Given an IP address as text, return what shares limits with it: an IPv4 address itself, of IPv6 its /64."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of another namespace, or one that was removed
        return f"uid {uid}"
