"""`/announce`: a machine without a token shows its key and waits for a word. Decides what an announcement has to prove.

The signature covers a nonce of this connection, so that none can be repeated by somebody else, and the certificate that
the machine sees, so that nobody in between goes unnoticed. Each announcement is a short connection of its own: who
waits holds nothing here. It refuses to know what is kept of it (`store.pending`).
"""

from __future__ import annotations

import functools
import logging
import secrets
from typing import Final

from sqlalchemy import Connection

from restic_manager.link import Link
from restic_manager.protocol.announcing import base32, bytes_of, fingerprint_of, signed_bytes
from restic_manager.protocol.messages import Announce, Announced, Challenge, Joined, Refused
from restic_manager.protocol.session import judge_version
from restic_manager.runtime.signing import is_signed
from restic_manager.server.peers import network_of
from restic_manager.server.services import Services
from restic_manager.server.sessions import first_message, turn_away
from restic_manager.server.store import grants, pending

logger = logging.getLogger(__name__)

_NONCE_BYTES: Final = 32


async def meet(services: Services, link: Link) -> None:
    """Given the link of somebody who has no token, take the announcement and answer it. Raise LinkClosed."""
    nonce = base32(secrets.token_bytes(_NONCE_BYTES))
    link.put(Challenge(nonce=nonce))
    message = await first_message(link)
    if not isinstance(message, Announce):
        await turn_away(link, message)
        return
    said = await _answer(services, link.remote, message, nonce)
    match said:
        case Joined(host_name=name):
            logger.info("agents' door: %s joined as %s, by its key", link.remote, name)
        case Announced(fingerprint=fingerprint):
            logger.info("agents' door: %s announces itself and waits, fingerprint %s", link.remote, fingerprint)
        case Refused(message=why):
            logger.info("agents' door: %s may not announce itself: %s", link.remote, why)
    link.put(said)


async def _answer(services: Services, remote: str, message: Announce, nonce: str) -> Announced | Joined | Refused:
    refused = judge_version(message.protocol)
    if refused is not None:
        return refused
    try:
        key, signature = bytes_of(message.public_key), bytes_of(message.signature)
    except ValueError:
        return Refused(code="invalid", message="the public key or the signature is no base32 as it is written here")
    if not is_signed(key, signed_bytes(message, nonce), signature):
        return Refused(code="invalid", message="the signature does not fit the public key, the nonce and the rest")
    pins = _own_pins(services)
    if message.pin is not None and pins and message.pin not in pins:
        return Refused(
            code="wrong_pin",
            message=f"the certificate that this machine sees (pin {message.pin}) is not this server's: somebody is in "
            "between. `restic-manager server cert show` on the server shows the right pin",
            retry=True,
        )
    address = remote.rpartition(":")[0].strip("[]") or remote
    fingerprint = fingerprint_of(key)
    announce = functools.partial(
        pending.announce,
        said=message,
        fingerprint=fingerprint,
        address=address[:256],
        # Behind a proxy all come from one address: then each counts for itself, and only all together have a limit.
        network=fingerprint if services.config.behind_proxy else network_of(address)[:256],
        now=services.clock.now(),
    )

    def change(tx: Connection) -> Announced | Joined | Refused:
        answer = announce(tx)
        if not isinstance(answer, Joined):
            return answer
        return grants.with_places(tx, answer, None, unseal=services.sealer.unseal)

    return await services.store.write(change)


def _own_pins(services: Services) -> tuple[str, ...]:
    """Return the pins of what machines see of this server; none where that is another's certificate, or none at all."""
    if services.tls is None or services.config.behind_proxy:
        return ()
    return services.tls.pins_at(services.clock.now())
