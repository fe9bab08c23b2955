"""The questions about operators: who one is, who holds tokens, and what the audit says. One method an operation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from restic_manager.client.exchange import Exchange, part, query_text
from restic_manager.domain.instants import instant_text
from restic_manager.protocol import api


class TrustQuestions:
    """A part of the Client."""

    _exchange: Exchange

    def whoami(self) -> api.WhoView:
        """Return who we are to this server, and with which role."""
        return self._exchange.ask("GET", "/v1/whoami", api.WhoView)

    def create_token(self, request: api.TokenRequest) -> api.TokenView:
        """Given a name and a role, return the token made for them: in this answer only."""
        return self._exchange.ask("POST", "/v1/tokens", api.TokenView, request)

    def tokens(self) -> list[api.TokenView]:
        """Return every token there ever was, the newest first."""
        return self._exchange.ask("GET", "/v1/tokens", list[api.TokenView])

    def revoke_token(self, ref: str) -> api.TokenView:
        """Given a token's name or the start of its id, revoke it and return it."""
        return self._exchange.ask("DELETE", f"/v1/tokens/{part(ref, 'token')}", api.TokenView)

    def audit(
        self, *, since: datetime | None = None, who: str | None = None, limit: int | None = None
    ) -> list[api.AuditView]:
        """Return what operators did and were refused, the newest first."""
        asked = {"since": None if since is None else instant_text(since), "who": who, "limit": limit}
        query = query_text({name: value for name, value in asked.items() if value is not None})
        return self._exchange.ask("GET", f"/v1/audit?{query}" if query else "/v1/audit", list[api.AuditView])

    def audit_check(self) -> api.AuditCheck:
        """Return whether every row of the audit fits the one before; its time limit grows with nothing: be patient."""
        return self._exchange.ask("GET", "/v1/audit/verify", api.AuditCheck)

    def audit_lines(self) -> Iterator[bytes]:
        """Yield every row of the audit, the oldest first, each as its line of JSON, byte for byte as it was sealed."""
        for line in self._exchange.stream("/v1/audit/export", msgspec.json.Decoder(msgspec.Raw), endless=True):
            yield bytes(line)
