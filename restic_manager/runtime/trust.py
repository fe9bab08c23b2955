"""TLS contexts: whom a client believes, and what a server offers. No sockets and no trio: commands use it as it is."""

from __future__ import annotations

import ssl


def client_context(*, pinned: bool) -> ssl.SSLContext:
    """Given whether a pin decides, return the context of a client: TLS 1.2 at least. The pin is for the caller."""
    if not pinned:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def server_context() -> ssl.SSLContext:
    """Return the context of a server, still without a certificate: TLS 1.2 at least."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # nobody resumes: an agent's connection lasts, and tickets would be 32 KiB a storm
    return context
