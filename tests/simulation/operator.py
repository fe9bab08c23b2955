"""The operator: makes repositories and schedules and changes them, through the server's own API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from tests.simulation.faults import ZONES, Setting
from tests.simulation.processes import SimServer
from tests.support.asgi import Answer, ask

CRONS: Final = (
    "*/5 * * * *",
    "*/7 * * * *",
    "*/15 * * * *",
    "3-59/20 * * * *",
    "@every 7m",
    "@every 11m30s",
    "17 * * * *",
    "30 1 * * *",
    "0 0,2,3,12 * * *",
    "45 */3 * * *",
    "*/10 1-3 * * *",
)


class Operator:
    """One operator's hands."""

    def __init__(self, server: SimServer, setting: Setting, note: Callable[[str], None]) -> None:
        self._server = server
        self._setting = setting
        self._note = note
        self.schedules: list[str] = []
        self._made = 0

    async def ask(self, method: str, path: str, body: Any = None) -> Answer | None:
        """Ask the server; None when it is not there, or dies of it."""
        api = self._server.api
        if api is None:
            return None
        with trio.move_on_after(30):
            try:
                return await ask(api, method, path, body)
            except Exception as error:  # noqa: BLE001 - the server died under the request
                if self._server.fuse is None or not self._server.fuse.blown:
                    raise
                self._note(f"operator: {method} {path} broke off: {error!r}")
        return None

    async def insist(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask until there is an answer."""
        while (answer := await self.ask(method, path, body)) is None or answer.status >= 500:
            await trio.sleep(5)
        return answer

    async def invite(self, name: str, labels: dict[str, str] | None = None) -> str:
        answer = await self.insist("POST", "/v1/hosts/invite", {"name": name, "labels": labels or {}})
        return str(answer.json["token"])

    async def set_up(self) -> None:
        """Make two repositories and the first schedules."""
        for name in ("one", "two"):
            await self.insist("POST", "/v1/repos", {"name": name, "url": f"/srv/{name}", "password": "secret"})
        dice = self._setting.dice("schedules")
        for _ in range(dice.randint(3, 6)):
            await self.add(dice.getrandbits(32))

    async def add(self, draw: int) -> None:
        """Add a schedule drawn from this number."""
        body = self.drawn(draw)
        answer = await self.ask("POST", "/v1/schedules", body)
        if answer is not None and answer.status == 201:
            self.schedules.append(body["name"])

    def drawn(self, draw: int) -> dict[str, Any]:
        """Return a schedule drawn from this number."""
        dice = self._setting.dice(f"schedule/{draw}")
        self._made += 1
        name = f"s{self._made}"
        cron = dice.choice(CRONS)
        body: dict[str, Any] = {
            "name": name,
            "cron": cron,
            "repo": dice.choice(("one", "two")),
            "spec": {"kind": "backup", "paths": [f"/srv/{name}"]},
            "timezone": self.zone(dice),
            "splay": dice.choice((0, 0, 0, 90, 300)),
            "overlap": dice.choice(("queue", "queue", "skip")),
            "offline": dice.choice(("run", "run", "wait")),
            "max_lateness": dice.choice((None, None, None, 1_800, 7_200)),
        } | self.targets(dice)
        return body

    def zone(self, dice: Any) -> str:
        return str(dice.choice(ZONES)) if "dst" in self._setting.kinds else "UTC"

    def targets(self, dice: Any) -> dict[str, Any]:
        names = [f"h{number}" for number in range(self._setting.hosts)]
        way = dice.choice(("all", "hosts", "labels"))
        if way == "all":
            return {"all": True}
        if way == "labels":
            return {"labels": {"tier": dice.choice(("gold", "iron"))}}
        return {"hosts": sorted(dice.sample(names, dice.randint(1, len(names))))}

    async def end_everything(self) -> None:
        """Remove every schedule."""
        listed = await self.insist("GET", "/v1/schedules")
        for schedule in listed.json:
            await self.insist("DELETE", f"/v1/schedules/{schedule['name']}")
