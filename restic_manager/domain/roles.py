"""What an operator may do: three roles, each with all that the one before has. Decides nothing about operations."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """viewer reads, operator runs and schedules as well, admin changes trust and secrets as well."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Given the role that something needs, return whether this one will do."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)
