"""Which hosts a schedule runs on. Decides membership from a rule and a host's labels; knows no names and no rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from restic_manager.domain.model import Id, Name, ShortText


class TargetRule(Struct, frozen=True, kw_only=True):
    """Exactly one of: these hosts (by id), hosts with all of these labels, every host."""

    hosts: tuple[Id, ...] = ()
    labels: Annotated[dict[Name, ShortText], Meta(max_length=64)] = {}
    all: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError unless exactly one of the three is given."""
        if (bool(self.hosts) + bool(self.labels) + self.all) != 1:
            raise ValueError("a target rule is exactly one of hosts, labels and all")


def selects(rule: TargetRule, *, host_id: str, labels: Mapping[str, str]) -> bool:
    """Given a rule and a host, return whether the host is a target."""
    if rule.all:
        return True
    if rule.labels:
        return all(labels.get(key) == value for key, value in rule.labels.items())
    return host_id in rule.hosts
