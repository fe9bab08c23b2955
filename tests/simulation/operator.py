"""The operator: makes repositories and schedules and changes them, through the server's own API."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import trio

from tests.simulation.faults import ZONES, Setting
from tests.simulation.simserver import SimServer
from tests.support.asgi import Answer, ask

CRONS: Final = (
    "* * * * *",
    "*/2 * * * *",
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
OVERLAPS: Final = ("queue", "skip")
RETAINING: Final = 0.3
"""So many schedules keep by rules: after each good backup of theirs the server has something forgotten."""


class Operator:
    """One operator's hands."""

    def __init__(self, server: SimServer, setting: Setting, note: Callable[[str], None]) -> None:
        self._server = server
        self._setting = setting
        self._note = note
        self._made = 0

    async def ask(self, method: str, path: str, body: Any = None) -> Answer | None:
        """Ask the server; None when it is not there, or dies of it."""
        api = self._server.api
        if api is None:
            return None
        with trio.move_on_after(30):
            try:
                return await ask(api, method, path, body)
            except Exception as error:
                if self._server.fuse is None or not self._server.fuse.blown:
                    raise
                self._note(f"operator: {method} {path} broke off: {error!r}")
        return None

    async def insist(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask until there is an answer."""
        while (answer := await self.ask(method, path, body)) is None or answer.status >= 500:  # noqa: ASYNC110 - a person
            await trio.sleep(5)
        return answer

    async def invite(self, name: str, labels: dict[str, str] | None = None) -> str:
        """Invite a host (for the first time, or again); return its token."""
        answer = await self.insist("POST", "/v1/hosts/invite", {"name": name, "labels": labels or {}})
        return str(answer.json["token"])

    async def set_up(self) -> None:
        """Make two repositories and the first schedules."""
        for name in ("one", "two"):
            await self.insist("POST", "/v1/repos", {"name": name, "url": f"/srv/{name}", "password": "secret"})
        dice = self._setting.dice("schedules")
        for _ in range(dice.randint(3, 6)):
            await self.add(dice.getrandbits(32))

    async def add(self, draw: int) -> bool:
        """Add a schedule drawn from this number."""
        body = self.drawn(draw)
        return self._done(f"add {body}", await self.ask("POST", "/v1/schedules", body))

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
        keep = self._setting.dice(f"retention/{draw}")
        if keep.random() < RETAINING:
            body["retention"] = {"last": keep.randint(1, 5)}
        return body

    def zone(self, dice: random.Random) -> str:
        """Return a drawn time zone (UTC where no clock is to change)."""
        return str(dice.choice(ZONES)) if "dst" in self._setting.kinds else "UTC"

    def targets(self, dice: random.Random) -> dict[str, Any]:
        """Return drawn targets."""
        names = self._hosts()
        way = dice.choice(("all", "hosts", "labels"))
        if way == "all":
            return {"all": True}
        if way == "labels":
            return {"labels": {"tier": dice.choice(("gold", "iron"))}}
        return {"hosts": sorted(dice.sample(names, dice.randint(1, len(names))))}

    async def act(self, kind: str, draw: int, *, host: str) -> bool:
        """Given what to do and a number to draw from, do it; return whether the server took it."""
        dice = self._setting.dice(f"act/{kind}/{draw}")
        match kind:
            case "add":
                done = await self.add(draw)
            case "relabel":
                done = await self._relabel(host, draw)
            case "cancel":
                done = await self._cancel(dice)
            case "pause":
                done = await self._pause(dice)
            case "resume":
                done = await self._resume(dice)
            case _:
                done = await self._edit(kind, dice, draw)
        return done

    async def _edit(self, kind: str, dice: random.Random, draw: int) -> bool:
        """Do to one of the schedules there are what this kind says."""
        names = await self._schedules()
        if not names:
            return False
        path = f"/v1/schedules/{dice.choice(names)}"
        if kind == "toggle":
            return await self._toggle(path)
        method, below, body = self._change(kind, dice, draw)
        return self._done(f"{kind} {path}", await self.ask(method, path + below, body))

    def _change(self, kind: str, dice: random.Random, draw: int) -> tuple[str, str, dict[str, Any] | None]:
        """Return how a schedule is changed: the method, what comes behind its path, and the body."""
        match kind:
            case "edit_timing":
                bodies: tuple[dict[str, Any], ...] = (
                    {"cron": dice.choice(CRONS)},
                    {"timezone": self.zone(dice), "cron": dice.choice(CRONS)},
                    {"splay": dice.choice((0, 60, 200))},
                )
                return "PATCH", "", dice.choice(bodies)
            case "edit_content":
                return "PATCH", "", dice.choice(({"tags": [f"t{draw % 1000}"]}, {"overlap": dice.choice(OVERLAPS)}))
            case "remove":
                return "DELETE", "", None
            case "retarget":
                return "PATCH", "", self.targets(dice)
            case "run":
                return "POST", "/run", {}
            case _:
                raise ValueError(f"no operator does {kind}")

    async def _toggle(self, path: str) -> bool:
        shown = await self.ask("GET", path)
        if shown is None or shown.status != 200:
            return False
        answer = await self.ask("PATCH", path, {"enabled": not shown.json["enabled"]})
        return self._done(f"toggle {path}", answer)

    async def _schedules(self) -> list[str]:
        listed = await self.ask("GET", "/v1/schedules")
        return sorted(item["name"] for item in listed.json) if listed is not None and listed.status == 200 else []

    async def _relabel(self, host: str, draw: int) -> bool:
        """Give a host another tier, or none."""
        tier = self._setting.dice(f"relabel/{draw}").choice(("gold", "iron", None))
        body = {"remove": ["tier"]} if tier is None else {"set": {"tier": tier}}
        return self._done(f"relabel {host} {tier}", await self.ask("POST", f"/v1/hosts/{host}/labels", body))

    async def _pause(self, dice: random.Random) -> bool:
        """Pause the fleet, a host or a schedule: for a while, mostly, or until somebody resumes."""
        seconds = dice.choice((None, dice.randint(60, 600), dice.randint(60, 7_200), dice.randint(7_200, 30_000)))
        names = await self._schedules()
        paths = [f"/v1/hosts/{dice.choice(self._hosts())}", "/v1"]
        paths += [f"/v1/schedules/{dice.choice(names)}"] * 2 if names else []
        path = f"{dice.choice(paths)}/pause"
        body = {"reason": "simulated"} | ({} if seconds is None else {"seconds": seconds})
        return self._done(f"{path} {seconds}", await self.ask("POST", path, body))

    async def _resume(self, dice: random.Random) -> bool:
        """Resume what is paused: one of all."""
        listed = await self.ask("GET", "/v1/pauses")
        if listed is None or listed.status != 200 or not listed.json:
            return False
        path = _resume_path(dice.choice(listed.json))
        return self._done(path, await self.ask("POST", path, {}))

    async def resume_everything(self) -> None:
        """Resume all that is paused."""
        for pause in (await self.insist("GET", "/v1/pauses")).json:
            await self.insist("POST", _resume_path(pause), {})

    def _hosts(self) -> list[str]:
        return [f"h{number}" for number in range(self._setting.hosts)]

    async def _cancel(self, dice: random.Random) -> bool:
        """Cancel one of the jobs that are not over."""
        listed = await self.ask("GET", "/v1/jobs?limit=40")
        if listed is None or listed.status != 200:
            return False
        unfinished = [job["id"] for job in listed.json if job["status"] in {"queued", "running"}]
        if not unfinished:
            return False
        job_id = dice.choice(unfinished)
        return self._done(f"cancel {job_id}", await self.ask("POST", f"/v1/jobs/{job_id}/cancel", {}))

    def _done(self, what: str, answer: Answer | None) -> bool:
        said = "no answer" if answer is None else f"{answer.status}"
        if answer is not None and answer.status >= 400:
            said += f" {answer.body[:200]!r}"
        self._note(f"operator: {what}: {said}")
        return answer is not None and answer.status < 300

    async def end_everything(self) -> None:
        """Remove every schedule."""
        listed = await self.insist("GET", "/v1/schedules")
        for schedule in listed.json:
            await self.insist("DELETE", f"/v1/schedules/{schedule['name']}")


def _resume_path(pause: dict[str, Any]) -> str:
    match pause["scope"]:
        case "host":
            return f"/v1/hosts/{pause['host']}/resume"
        case "schedule":
            return f"/v1/schedules/{pause['schedule']}/resume"
        case _:
            return "/v1/resume"
