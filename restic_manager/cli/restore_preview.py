"""What a person is shown and asked before a restore: what comes back, where to, and what happens to what is there.

Owns the words and the dry run that counts. Refuses to know how options become a spec.
"""

from __future__ import annotations

from msgspec.structs import replace

from restic_manager.cli import exits
from restic_manager.cli.command import Operator
from restic_manager.cli.snapshot_pick import of_whom
from restic_manager.cli.text import amount, listing, moment, short, size
from restic_manager.domain.errors import InputError, NotFoundError
from restic_manager.domain.specs import RestoreSpec
from restic_manager.protocol.api import HostView, JobRequest, SnapshotView

_FATE = {
    None: "files that are there are overwritten",
    "always": "files that are there are overwritten",
    "if-changed": "files that are there and differ are overwritten",
    "if-newer": "files that are there and older are overwritten",
    "never": "files that are there stay as they are",
}


def onto(operator: Operator, snapshot: SnapshotView, on_host: str | None) -> str:
    """Given a snapshot and `--on-host`, return the host to restore onto; raise InputError if there is none.

    Another host that has the name of one that was removed is not the one the snapshot is of.
    """
    if on_host is not None:
        return on_host
    gone = f"{snapshot.restic_host}, which is no host of ours now"
    if snapshot.host is not None:
        try:
            if operator.client.host(snapshot.host).restic_host == snapshot.restic_host:
                return snapshot.host
            gone = f"a host {snapshot.host} that was removed, not of the one that has its name now"
        except NotFoundError:
            gone = f"{snapshot.host}, which is no host of ours now"
    raise InputError(f"snapshot {short(snapshot.id)} is of {gone}: say which host it shall go to, --on-host H")


def agreed(operator: Operator, snapshot: SnapshotView, request: JobRequest) -> int | None:
    """Given what is asked for, show it to the person at the terminal and ask; return None to go on, else the exit code.

    A dry run counts first, where the host's restic has one and the host is there.
    """
    screen = operator.screen
    spec = request.spec
    if not isinstance(spec, RestoreSpec) or request.host is None:
        raise TypeError("only a restore onto a host is agreed here")
    host = operator.client.host(request.host)
    for line in preview_lines(operator, snapshot, spec, host):
        screen.note(line)
    if spec.dry_run:
        return None
    if host.online and has_dry_run(host):
        code = _counted(operator, request)
        if code not in {exits.DONE, exits.WARNING}:
            return code
    if not spec.in_place:
        return None if operator.agrees(f"restore it to {spec.target} on {host.name}?", yes=False) else exits.DONE
    if screen.typed(f"this writes over files on {host.name}; type the host's name to go on:") == host.name:
        return None
    screen.note("that is not its name: nothing was changed")
    return exits.DONE


def preview_lines(operator: Operator, snapshot: SnapshotView, spec: RestoreSpec, host: HostView) -> list[str]:
    """Given a restore, return what would come back, where to, and what happens to what is there, in lines."""
    whole = ""
    if snapshot.files is not None and snapshot.size is not None:
        whole = f", {amount(snapshot.files, 'file')}, {size(snapshot.size)}"
    taken = "everything" if not spec.paths else listing(list(spec.paths))
    if spec.includes:
        taken += f", what matches {listing(list(spec.includes))}"
    if spec.excludes:
        taken += f" but {listing(list(spec.excludes))}"
    there = "" if host.online else " (offline: it is done when it is back)"
    made = moment(snapshot.time, operator.now())
    lines = [
        f"snapshot {short(snapshot.id)} of {of_whom(snapshot)} in {snapshot.repo}, {made}{whole}",
        f"what: {taken}",
        f"where to: {host.name}{there}, {'in place' if spec.in_place else spec.target}",
    ]
    if spec.in_place or spec.overwrite is not None:
        lines.append(f"there: {_FATE[spec.overwrite]}")
    else:
        lines.append("there: the folder has to be empty or absent (--overwrite says what else)")
    if spec.delete:
        where = listing(list(spec.paths)) if spec.paths else "the folder"
        lines.append(f"there: what the snapshot does not have is DELETED below {where}")
    return lines


def has_dry_run(host: HostView) -> bool:
    """Given a host, return whether its restic can say beforehand what a restore would do."""
    from restic_manager.restic.version import Feature, ResticUnusableError, parse_version

    try:
        return parse_version(f"restic {host.restic_version}").has(Feature.RESTORE_CHOICES)
    except ResticUnusableError:
        return False  # what no version can be read from is asked for nothing new


def _counted(operator: Operator, request: JobRequest) -> int:
    """Let a dry run say what would happen; return the exit code it stands for."""
    from restic_manager.cli.listing import asked, drained, verdict
    from restic_manager.cli.result_words import result_words

    trial = replace(request, spec=replace(request.spec, dry_run=True, verify=False))
    operator.screen.note("a dry run counts (Ctrl-C leaves everything as it is) …")
    job = asked(operator, trial)
    try:
        job = drained(operator, job, lambda _: None)
    except KeyboardInterrupt:
        operator.client.cancel_job(job.id)
        raise
    code = verdict(operator, job, 0)
    if job.result is not None and code in {exits.DONE, exits.WARNING}:
        operator.screen.note(f"dry run: {result_words(job.result)}")
    return code
