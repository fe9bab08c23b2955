"""`/v1/server/certificate`: what hosts see of the server, and how it is changed. Thin over `server.certificates`.

Owns which hosts a change would leave behind: those that know the server by a pin and have not said that they hold the
next one.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

import trio
from sqlalchemy import Connection

from restic_manager.domain.errors import ConflictError
from restic_manager.protocol.api import CertificateView, RotateRequest
from restic_manager.protocol.messages import CAP_PINS
from restic_manager.server.api.operations import Call, Operation
from restic_manager.server.certificates import OwnCertificate, ServerCertificate
from restic_manager.server.services import Services
from restic_manager.server.store import events, hosts

logger = logging.getLogger(__name__)


async def show(services: Services, call: Call[None, None]) -> CertificateView:  # noqa: ARG001 - a handler's form
    """Return the certificate that hosts see, and the next one."""
    return await _view(services, _the_certificate(services))


async def rotate(services: Services, call: Call[RotateRequest, None]) -> CertificateView:
    """Make the next certificate, or (finish) show it from now on."""
    certificate = _the_certificate(services)
    if not isinstance(certificate, OwnCertificate):
        raise ConflictError(
            "this server shows the certificate it was given (--tls-cert): replace its files, and it shows the new one"
        )
    now = services.clock.now()
    before = _facts(certificate, now)
    if call.body.finish:
        await trio.to_thread.run_sync(certificate.finish, now)
        detail = "the next certificate is shown from now on"
    else:
        await trio.to_thread.run_sync(certificate.rotate, now, timedelta(seconds=call.body.overlap))
        detail = "the next certificate was made; hosts that connect learn its pin"
    pin = certificate.pins_at(now)[-1]

    def note(tx: Connection) -> None:
        events.record(tx, now=now, actor=call.act.asker.name, what="certificate", detail=f"{detail}: {pin}")

    await services.store.write(call.act.within(note, before=before, after=_facts(certificate, now)))
    logger.info("%s: %s", detail, pin)
    # The welcome tells the pins: whoever is connected comes again, spread as after a restart, and holds them then.
    services.hub.close_all("the server's certificate changes")
    return await _view(services, certificate)


def _the_certificate(services: Services) -> ServerCertificate:
    if services.tls is None:
        raise ConflictError(
            "this server speaks no TLS, so it has no certificate: start it with --tls auto, or with --tls-cert and "
            "--tls-key"
        )
    return services.tls


def _facts(certificate: ServerCertificate, now: datetime) -> dict[str, str]:
    shown, coming = certificate.now(now)
    return {"pin": shown.pin} if coming is None else {"next_pin": coming.pin, "pin": shown.pin}


async def _view(services: Services, certificate: ServerCertificate) -> CertificateView:
    shown, coming = certificate.now(services.clock.now())
    waiting: tuple[str, ...] = ()
    if coming is not None and not services.config.behind_proxy:
        known = await services.store.read(hosts.all_hosts)
        # One that has joined and not said hello yet may have come with the old pin alone.
        waiting = tuple(
            host.name
            for host in known
            if host.joined_at is not None
            and (CAP_PINS in host.capabilities or host.agent_version is None)
            and coming.pin not in host.pins
        )
    return CertificateView(
        mode=certificate.mode,
        pin=shown.pin,
        subject=shown.subject,
        not_before=shown.not_before,
        not_after=shown.not_after,
        next_pin=None if coming is None else coming.pin,
        next_shown_from=None if coming is None else coming.shown_from,
        hosts_without_next=waiting,
    )


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/server/certificate",
        name="certificate_show",
        summary="The certificate that hosts see, and the one that follows it",
        handler=show,
        response=CertificateView,
    ),
    Operation(
        method="POST",
        path="/v1/server/certificate/rotate",
        name="certificate_rotate",
        summary="Make the next certificate, whose pin hosts learn while both hold; or end that time now",
        handler=rotate,
        request=RotateRequest,
        response=CertificateView,
    ),
)
