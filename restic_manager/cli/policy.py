"""`agent policy`: what this host lets its server do. Runs on the host, asks no server, changes one file.

Owns how the policy is shown and which words may be added to it. What they mean is `domain.policy`, the file
`agent.policy_file` and `agent.policy_edit`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restic_manager.cli.command import Operator, new_app, operator_command
from restic_manager.domain.errors import InputError, NotPermittedError

if TYPE_CHECKING:
    from pathlib import Path

    from restic_manager.agent.policy_file import Loaded, PolicyBook

app = new_app(
    "What this host lets its server do: show it, check it, allow more. Runs on the host; the server cannot change it."
)

PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="The policy file. Else RESTIC_MANAGER_POLICY, else agent-policy.toml in the agent's data directory.",
        show_default=False,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The agent's data directory. Else RESTIC_MANAGER_DATA_DIR, else /var/lib/restic-manager for root and the"
        " user's state folder for others.",
        show_default=False,
    ),
]

_DEFAULTS: Final = {
    "kinds": "all but {away}",
    "sources": "all",
    "restore_targets": "{restores}",
    "repositories": "only those that the host uses already, and those its join brought",
    "hooks": "none",
    "commands": "none",
}


@operator_command(app, "show", local=True, examples="restic-manager agent policy show")
def show(operator: Operator, *, policy: PolicyOption = None, data_dir: WhereOption = None) -> None:
    """Show what the server may do on this host, and which line of the policy file says so."""
    book, folder = _book(policy, data_dir)
    loaded = _believed(book)
    from restic_manager.domain.policy import KIND_WORDS, allowed_kinds

    if operator.as_json:
        operator.screen.data(_as_data(book, loaded))
        return
    kinds = allowed_kinds(loaded.policy)
    rows = [("File", str(book.path) if loaded.path is not None else f"{book.path} is not there: the safe default")]
    rows += [(key, _listed(key, loaded, folder)) for key in _DEFAULTS]
    rows += [
        ("upload_limit", _rate(loaded.policy.upload_limit)),
        ("download_limit", _rate(loaded.policy.download_limit)),
        ("concurrent_jobs", str(loaded.policy.concurrent_jobs or "as many as there are")),
        ("Refused", ", ".join(word for word in KIND_WORDS if word not in kinds) or "no kind of job"),
        ("Hooks in", str(folder / "hooks")),
        ("Commands in", str(folder / "commands")),
    ]
    operator.screen.fields(rows)


@operator_command(app, "check", local=True, examples="restic-manager agent policy check --policy ./new-policy.toml")
def check(operator: Operator, *, policy: PolicyOption = None, data_dir: WhereOption = None) -> None:
    """Check the policy file: that it can be understood and believed, and that the programs it names are there.

    Exit code 2 if an agent would refuse every job because of it.
    """
    book, folder = _book(policy, data_dir)
    loaded = _believed(book)
    troubles = _programs_amiss(loaded, folder)
    if operator.as_json:
        operator.screen.data(_as_data(book, loaded) | {"problems": troubles})
        return
    for trouble in troubles:
        operator.screen.note(trouble)
    if loaded.path is None:
        operator.screen.say(f"there is no {book.path}: the safe default holds")
    else:
        operator.screen.say(f"{book.path} is in order")


@operator_command(app, "allow-kind", local=True, examples="restic-manager agent policy allow-kind forget prune")
def allow_kind(
    operator: Operator,
    words: Annotated[list[str], typer.Argument(metavar="KIND...", help="Such as forget, prune, tag, unlock-all; `*`.")],
    *,
    policy: PolicyOption = None,
    data_dir: WhereOption = None,
) -> None:
    """Let the server run jobs of these kinds here."""
    _allow(operator, "kinds", words, policy, data_dir)


@operator_command(app, "allow-source", local=True, examples="restic-manager agent policy allow-source /srv /home")
def allow_source(
    operator: Operator,
    words: Annotated[list[str], typer.Argument(metavar="PATH...", help="A folder covers all below it.")],
    *,
    policy: PolicyOption = None,
    data_dir: WhereOption = None,
) -> None:
    """Let the server read these paths. All may be read until the file has a list of sources."""
    _allow(operator, "sources", words, policy, data_dir)


@operator_command(app, "allow-restore", local=True, examples="restic-manager agent policy allow-restore /srv")
def allow_restore(
    operator: Operator,
    words: Annotated[list[str], typer.Argument(metavar="PATH...", help="A folder covers all below it.")],
    *,
    policy: PolicyOption = None,
    data_dir: WhereOption = None,
) -> None:
    """Let the server restore into these folders, beside the agent's own."""
    _allow(operator, "restore_targets", words, policy, data_dir)


@operator_command(
    app,
    "allow-repository",
    local=True,
    examples="restic-manager agent policy allow-repository rest:https://nas/web1",
)
def allow_repository(
    operator: Operator,
    words: Annotated[
        list[str], typer.Argument(metavar="URL...", help="Without user and password; `*` matches anything, `/` too.")
    ],
    *,
    policy: PolicyOption = None,
    data_dir: WhereOption = None,
) -> None:
    """Let the server have backups of this host written to these repositories, and restored from them."""
    _allow(operator, "repositories", words, policy, data_dir)


@operator_command(app, "allow-hook", local=True, examples="restic-manager agent policy allow-hook stop-db start-db")
def allow_hook(
    operator: Operator,
    words: Annotated[list[str], typer.Argument(metavar="NAME...", help="A program in the agent's folder `hooks`.")],
    *,
    policy: PolicyOption = None,
    data_dir: WhereOption = None,
) -> None:
    """Let schedules name these programs as hooks."""
    _allow(operator, "hooks", words, policy, data_dir)


@operator_command(app, "allow-command", local=True, examples="restic-manager agent policy allow-command dump-db")
def allow_command(
    operator: Operator,
    words: Annotated[list[str], typer.Argument(metavar="NAME...", help="A program in the agent's folder `commands`.")],
    *,
    policy: PolicyOption = None,
    data_dir: WhereOption = None,
) -> None:
    """Let backups save what these programs write, and passwords come from them."""
    _allow(operator, "commands", words, policy, data_dir)


def _allow(operator: Operator, key: str, words: list[str], policy: str | None, data_dir: str | None) -> None:
    from restic_manager.agent.policy_edit import allow
    from restic_manager.domain.policy import place_of, plain_path
    from restic_manager.runtime.datadir import prepare

    book, folder = _book(policy, data_dir)
    given = tuple(words)
    if key in {"sources", "restore_targets"}:
        given = tuple(plain_path(word) if word.startswith("/") else word for word in given)
    if key == "repositories":
        given = tuple(word if " " in word or "*" in word else place_of(word, {}) for word in given)
    if book.path.parent == folder:
        prepare(folder)  # the host's administrator may say what is allowed before the agent was ever there
    try:
        added = allow(book.path, key, given)
    except NotPermittedError as error:
        raise InputError(error.message, code="bad_policy") from None
    loaded = _believed(book)
    if operator.as_json:
        operator.screen.data(_as_data(book, loaded) | {"added": list(added)})
        return
    if added:
        operator.screen.say(f"{book.path}: {key} has {', '.join(added)} from now on; running agents need no restart")
    elif key == "sources" and loaded.policy.sources is None:
        operator.screen.say("all sources are allowed: the file has no list of them")
    else:
        operator.screen.say(f"{book.path}: {key} has {', '.join(given)} already")
    for trouble in _programs_amiss(loaded, folder):
        operator.screen.note(trouble)


def _book(policy: str | None, data_dir: str | None) -> tuple[PolicyBook, Path]:
    from pathlib import Path

    from restic_manager.agent.policy_file import book_of
    from restic_manager.runtime.datadir import default_data_dir

    folder = default_data_dir(data_dir, os.environ)
    named = policy or os.environ.get("RESTIC_MANAGER_POLICY")
    return book_of(folder, None if not named else Path(named).expanduser().absolute()), folder


def _believed(book: PolicyBook) -> Loaded:
    try:
        return book.current()
    except NotPermittedError as error:
        raise InputError(error.message, code="bad_policy") from None


def _programs_amiss(loaded: Loaded, folder: Path) -> list[str]:
    """Return what is wrong with the programs that the policy names in full: patterns may have none yet."""
    from restic_manager.agent.executables import COMMANDS, HOOKS, find

    troubles = []
    for place, names in ((HOOKS, loaded.policy.hooks), (COMMANDS, loaded.policy.commands)):
        for name in names or ():
            if "*" in name or name == "default":
                continue
            try:
                find(folder / place, name)
            except NotPermittedError as error:
                troubles.append(error.message)
    return troubles


def _listed(key: str, loaded: Loaded, folder: Path) -> str:
    from restic_manager.agent.policy_file import RESTORES
    from restic_manager.domain.policy import NOT_BY_DEFAULT

    default = _DEFAULTS[key].format(away=", ".join(sorted(NOT_BY_DEFAULT)), restores=folder / RESTORES)
    words = getattr(loaded.policy, key)
    if words is None:
        return f"{default} (the safe default)"
    shown = [f"default: {default}" if word == "default" else word for word in words] or ["none"]
    return "\n".join((*shown, f"(line {loaded.lines[key]})"))


def _rate(limit: int | None) -> str:
    return "no ceiling" if limit is None else f"{limit:,} KiB/s"


def _as_data(book: PolicyBook, loaded: Loaded) -> dict[str, object]:
    import msgspec

    from restic_manager.domain.policy import allowed_kinds

    return {
        "file": str(book.path),
        "exists": loaded.path is not None,
        "policy": msgspec.to_builtins(loaded.policy),
        "lines": loaded.lines,
        "allowed_kinds": list(allowed_kinds(loaded.policy)),
    }
