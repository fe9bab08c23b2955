"""`host`: the machines. Owns how hosts are shown; what may be done with them is the server's to decide."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from restic_manager.cli.command import Operator, YesOption, new_app, operator_command
from restic_manager.cli.host_trust import add_trust
from restic_manager.cli.pause_options import ForOption, ReasonOption, UntilOption
from restic_manager.cli.text import listing, moment, seconds_text, short, when
from restic_manager.domain.errors import InputError

if TYPE_CHECKING:
    from restic_manager.protocol.api import HostView

app = new_app(
    "Machines: invite or approve, list, label, rename, rotate, revoke, remove."
    " NAME is a host's name or the start of its id."
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@operator_command(
    app,
    "invite",
    examples="""
      restic-manager host invite web1 --label role=web --label site=berlin
      restic-manager host invite web1          again, after a reinstall: a rejoin
      restic-manager host invite keeper --allow forget,prune   may delete
    """,
)
def invite(
    operator: Operator,
    name: NameArgument,
    *,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="K=V", help="A label for the host; repeat for more.")
    ] = None,
    repo: Annotated[
        list[str] | None,
        typer.Option(
            "--repo",
            metavar="R",
            help="A repository that it may use from the start; repeat for more. [default: those of its schedules, else"
            " all]",
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        str | None,
        typer.Option(
            "--allow",
            metavar="KINDS",
            help="Let it do more than is safe if this server is stolen, such as forget,prune. It stands in the line to"
            " paste, which writes it into the host's own policy.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Let a machine join, and print the line to paste there.

    The token in it works once, within an hour. For a host that is already known it is a rejoin: the host keeps its id,
    labels and history, and its old credential ends when the new one is used.
    """
    from restic_manager.protocol.api import InviteRequest

    labels, _ = parse_labels(label or [], removing=False)
    allowed = tuple(word.strip() for word in allow.split(",")) if allow is not None else ()
    invited = operator.client.invite_host(
        InviteRequest(name=name, labels=labels, repos=tuple(repo or ()), allow=allowed)
    )
    if operator.as_json:
        operator.screen.data(invited)
        return
    doing = "rejoin" if invited.rejoin else "join"
    left = when(invited.expires_at, operator.now())
    operator.screen.note(f"run this on {invited.name} to let it {doing}; it works once and ends {left}:")
    operator.screen.say(invited.command)
    if invited.repositories:
        operator.screen.note(
            f"its agent will use {listing(list(invited.repositories))}; any other repository has to be"
        )
        operator.screen.note("allowed on the host: `restic-manager agent policy allow-repository URL`")
    else:
        operator.screen.note("note: there is no repository yet. Add it before the host joins, or allow it on the host")
        operator.screen.note("afterwards: `restic-manager agent policy allow-repository URL`")
    if invited.note:
        operator.screen.note(f"note: {invited.note}")


@operator_command(app, "list")
def list_hosts(operator: Operator) -> None:
    """List all hosts: whether each is there, since when, and what runs on it."""
    hosts = operator.client.hosts()
    if operator.as_json:
        operator.screen.data(hosts)
        return
    now = operator.now()
    operator.screen.table(
        ["NAME", "STATE", "SEEN", "RESTIC", "AGENT", "SCHEDULES", "LABELS"],
        (
            (
                host.name,
                _state(host),
                "now" if host.online else when(host.last_seen_at, now),
                host.restic_version or ("none" if host.restic_problem else "-"),
                host.agent_version or "-",
                _applied(host),
                listing([f"{key}={value}" for key, value in sorted(host.labels.items())], most=4),
            )
            for host in hosts
        ),
        empty="no hosts yet: `restic-manager host invite NAME` lets one join",
    )


@operator_command(app, "show")
def show(operator: Operator, name: NameArgument) -> None:
    """Show one host: versions, labels, clock, and whether it has applied its schedules."""
    host = operator.client.host(name)
    if operator.as_json:
        operator.screen.data(host)
    else:
        operator.screen.fields(_page(host, operator.now()))


@operator_command(
    app,
    "label",
    examples="""
      restic-manager host label web1 role=web site=berlin
      restic-manager host label web1 site-          takes the label site away
    """,
)
def label(
    operator: Operator,
    name: NameArgument,
    changes: Annotated[list[str], typer.Argument(metavar="K=V|K-", show_default=False)],
) -> None:
    """Set labels (K=V) and take them away (K-). Schedules with --label follow at once."""
    from restic_manager.protocol.api import LabelRequest

    labels, removed = parse_labels(changes, removing=True)
    host = operator.client.label_host(name, LabelRequest(set=labels, remove=tuple(removed)))
    if operator.as_json:
        operator.screen.data(host)
        return
    kept = ", ".join(f"{key}={value}" for key, value in sorted(host.labels.items()))
    operator.screen.say(f"{host.name}: {kept or 'no labels'}")


@operator_command(app, "rename")
def rename(
    operator: Operator, name: NameArgument, new_name: Annotated[str, typer.Argument(metavar="NEW", show_default=False)]
) -> None:
    """Give a host another name. Its id, history and schedules stay; its snapshots keep the host name restic knows."""
    from restic_manager.protocol.api import RenameRequest

    host = operator.client.rename_host(name, RenameRequest(name=new_name))
    if operator.as_json:
        operator.screen.data(host)
        return
    operator.screen.say(f"the host is now called {host.name} (in restic: {host.restic_host})")


@operator_command(
    app,
    "pause",
    examples="""
      restic-manager host pause web1 --reason 'disks are being swapped' --for 1d
    """,
)
def pause(
    operator: Operator,
    name: NameArgument,
    *,
    reason: ReasonOption = "",
    until: UntilOption = None,
    lasting: ForOption = None,
) -> None:
    """Let no slot run on a host for a while; they are recorded as skipped, with the reason. What runs goes on."""
    from restic_manager.cli.pausing import request, told

    told(operator, name, operator.client.pause_host(name, request(reason, until, lasting)))


@operator_command(app, "resume")
def resume(operator: Operator, name: NameArgument) -> None:
    """End a host's pause: the next slot of each of its schedules runs."""
    from restic_manager.cli.pausing import told

    told(operator, name, operator.client.resume_host(name))


@operator_command(
    app,
    "remove",
    examples="""
      restic-manager host remove web1
      restic-manager host remove web1 --purge   its history, too
    """,
)
def remove(
    operator: Operator,
    name: NameArgument,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Take its history away, too: jobs, logs, fates.")] = False,
    yes: YesOption = False,
) -> None:
    """Forget a host: its credential ends at once and no schedule runs on it any more. Its snapshots stay.

    Asks on a terminal. Its history stays as well, unless --purge is given (which also works on a host that was removed
    before, by its whole name or id). A host of the same name that joins later is another host.
    """
    loses = " All that is known of its jobs is lost." if purge else ""
    if purge:
        if not operator.agrees(f"remove host {name} and its history? Its agent will be refused.{loses}", yes=yes):
            return
    elif not yes and operator.screen.may_ask:
        host = operator.client.host(name)
        if not operator.agrees(f"remove host {host.name} ({_state(host)})? Its agent will be refused.", yes=yes):
            return
        name = host.id
    host = operator.client.remove_host(name, purge=purge)
    if operator.as_json:
        operator.screen.data(host)
        return
    history = "and its history are" if purge else "is"
    operator.screen.say(f"host {host.name} {history} removed; its snapshots stay in their repositories")


def parse_labels(words: list[str], *, removing: bool) -> tuple[dict[str, str], list[str]]:
    """Given `K=V` words (and `K-` where `removing`), return labels to set and names to take away; raise InputError."""
    labels: dict[str, str] = {}
    removed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key and key not in labels:
            labels[key] = value
        elif removing and not equals and word.endswith("-") and len(word) > 1:
            removed.append(word[:-1])
        elif equals and key:
            raise InputError(f"the label {key!r} is given twice: {labels[key]!r} and {value!r}")
        else:
            remedy = "K=V sets a label, K- takes it away" if removing else "write K=V"
            raise InputError(f"{word!r} is not a label: {remedy}")
    for key in removed:
        if key in labels:
            raise InputError(f"the label {key!r} is both set and taken away: choose one")
    return labels, removed


def _state(host: HostView) -> str:
    if host.state != "joined":
        return host.state
    if host.pauses:
        return f"{'online' if host.online else 'offline'}, paused"
    return "online" if host.online else "offline"


def _credential(host: HostView, now: datetime) -> str:
    """Return since when the host has its credential, and whether it is to replace it."""
    if host.state == "revoked":
        return f"revoked {moment(host.revoked_at, now)}: `restic-manager host invite {host.name}` lets it join again"
    asked = ""
    if host.rotation_asked_at is not None:
        when_told = "it has not answered yet" if host.online else "it is told when it is online"
        asked = f"; to be replaced, asked {moment(host.rotation_asked_at, now)}: {when_told}"
    return f"since {moment(host.credential_at, now)}{asked}" if host.credential_at is not None else ""


def _applied(host: HostView) -> str:
    """Return whether the host works by the schedules it should."""
    if host.refused_entries:
        return f"{len(host.refused_entries)} refused"
    if host.applied_schedule_version == host.schedule_version:
        return "applied"
    return "waiting"


def _proven(host: HostView, now: datetime) -> str:
    """Return when a backup of the host was last restored and found right."""
    if host.proven_at is None:
        return "no backup of it was restored and compared yet" if host.state == "joined" else ""
    job = f", by job {short(host.proven_job_id)}" if host.proven_job_id else ""
    return f"restored and found right {moment(host.proven_at, now)}{job}"


def _page(host: HostView, now: datetime) -> list[tuple[str, str]]:
    from restic_manager.cli.pausing import pause_words

    skew = host.clock_skew
    clock = ""
    if skew is not None:
        side = "ahead of" if skew > 0 else "behind"
        clock = f"{seconds_text(abs(skew))} {side} the server" if abs(skew) >= 1 else "agrees with the server"
    return [
        ("Name", host.name),
        ("Id", host.id),
        ("State", _state(host)),
        ("Paused", "\n".join(pause_words(pause, now) for pause in host.pauses)),
        ("Last seen", "now" if host.online else moment(host.last_seen_at, now)),
        ("Joined", moment(host.joined_at, now)),
        ("Credential", _credential(host, now)),
        ("Proven", _proven(host, now)),
        ("Labels", "\n".join(f"{key}={value}" for key, value in sorted(host.labels.items()))),
        ("Agent", host.agent_version or ""),
        ("restic", host.restic_version or ""),
        ("Problem", host.restic_problem or ""),
        ("In restic", host.restic_host),
        ("System", host.os or ""),
        ("Time zone", host.timezone or ""),
        ("Clock", clock),
        ("Schedules", f"version {host.schedule_version}, applied {host.applied_schedule_version}"),
        ("Refused", "\n".join(host.refused_entries)),
        ("Allows", "" if host.kinds is None else ", ".join(host.kinds) or "no job at all: its policy file is broken"),
    ]


add_trust(app)
