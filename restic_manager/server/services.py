"""What the parts of a running server share. Made once by `server.app`, handed to both doors; holds, decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from restic_manager.config import ServerConfig
from restic_manager.runtime.bell import Bell
from restic_manager.runtime.clock import Clock
from restic_manager.runtime.exposure import TlsChoice
from restic_manager.secrets import Sealer
from restic_manager.server.certificates import ServerCertificate
from restic_manager.server.dispatch import Dispatcher
from restic_manager.server.guests import Guests
from restic_manager.server.hub import Hub
from restic_manager.server.keys import Keys
from restic_manager.server.store.writer import Store


@dataclass(frozen=True, kw_only=True)
class Services:
    """One server's parts. `listening` is where its agents' door really is, as HOST:PORT.

    The epoch is not here: it may change while the server runs, and its row is the truth (`store.identity.epoch`).
    """

    store: Store
    hub: Hub
    dispatcher: Dispatcher
    clock: Clock
    sealer: Sealer
    config: ServerConfig
    started_at: datetime
    listening: str
    keys: Keys | None = None
    """Changes the sealer's key; None where that is fixed, as in tests."""
    tls: ServerCertificate | None = None
    """What both doors show; None where no door speaks TLS."""
    guests: Guests = field(default_factory=Guests)
    """The requests under way that an operator's token let in."""
    pauses_changed: Bell = field(default_factory=Bell)
    """Rung when a pause began or ended: the janitor looks again when the next one ends."""

    def pins(self) -> tuple[str, ...]:
        """Return the pins a host has to know of this server now; none where it sees no certificate, or not this one."""
        return self._pins_of(self.config.tls)

    def operators_pins(self) -> tuple[str, ...]:
        """Return the pins an operator has to know who comes over TCP; none where it sees no certificate of our own."""
        return self._pins_of(self.config.api_tls)

    def _pins_of(self, choice: TlsChoice) -> tuple[str, ...]:
        if self.tls is None or self.config.behind_proxy or choice.mode != "auto":
            return ()
        return self.tls.pins_at(self.clock.now())
