"""The options of a schedule's hooks, and what they come to: programs of the hosts' own, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from restic_manager.cli.command import OptionSet
from restic_manager.cli.typed import NONE, seconds
from restic_manager.domain.errors import InputError
from restic_manager.domain.hooks import Hooks, check_program_name


def _hook(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, metavar="NAME", help=text, show_default=False)
    return option


@dataclass(frozen=True, kw_only=True)
class HookOptions(OptionSet):
    """Which programs run round each job. A list that is given replaces the whole list, one '' empties it."""

    hook_before: Annotated[
        list[str] | None,
        _hook("--hook-before", "First run this program of the host's hooks; if it fails, nothing is started; repeat."),
    ] = None
    hook_after: Annotated[list[str] | None, _hook("--hook-after", "Run this after a job that succeeded; repeat.")] = (
        None
    )
    hook_on_failure: Annotated[
        list[str] | None, _hook("--hook-on-failure", "Run this after a job that failed; repeat.")
    ] = None
    hook_finally: Annotated[
        list[str] | None, _hook("--hook-finally", "Run this at the end, whatever happened; repeat.")
    ] = None
    hook_time_limit: Annotated[
        str | None,
        typer.Option("--hook-time-limit", metavar="D", help="End a hook that takes longer. [default: 10m]"),
    ] = None


def hooks_after(before: Hooks | None, typed: HookOptions) -> Hooks | None:
    """Given a schedule's hooks and the options, return its hooks then; raise InputError for what can be none."""
    old = before or Hooks()
    hooks = Hooks(
        before=_names(typed.hook_before, old.before),
        after=_names(typed.hook_after, old.after),
        on_failure=_names(typed.hook_on_failure, old.on_failure),
        finally_=_names(typed.hook_finally, old.finally_),
        time_limit=old.time_limit if typed.hook_time_limit is None else _limit(typed.hook_time_limit),
    )
    if not hooks.names and typed.hook_time_limit is not None:
        raise InputError("--hook-time-limit is for hooks, and there is none: say which, like --hook-before NAME")
    return hooks if hooks.names else None


def hook_words(hooks: Hooks | None) -> str:
    """Given hooks, return them for a person."""
    from restic_manager.cli.text import seconds_text
    from restic_manager.domain.hooks import Phase

    if hooks is None:
        return "none"
    lines = [f"{phase}: {', '.join(hooks.of(phase))}" for phase in Phase if hooks.of(phase)]
    return "\n".join((*lines, f"each at most {seconds_text(hooks.time_limit)}"))


def _names(typed: list[str] | None, old: tuple[str, ...]) -> tuple[str, ...]:
    if not typed:
        return old
    names = tuple(name for name in typed if name)
    for name in names:
        check_program_name(name)
    return names


def _limit(text: str) -> int:
    if text == NONE:
        raise InputError("--hook-time-limit none: a hook has to end some time; the longest is 1d")
    found = seconds(text, "--hook-time-limit")
    if not 1 <= found <= 86_400:
        raise InputError(f"--hook-time-limit {text}: write one from 1s to 1d")
    return found
