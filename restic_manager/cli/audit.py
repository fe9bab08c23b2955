"""`audit`: what operators did and were refused. Owns how rows are shown, and what a broken chain means to a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from restic_manager.cli import exits
from restic_manager.cli.command import Operator, new_app, operator_command
from restic_manager.cli.spec_options import value
from restic_manager.cli.text import listing, when
from restic_manager.cli.typed import since_when, whole_number

if TYPE_CHECKING:
    from restic_manager.protocol.api import AuditView

app = new_app("What operators did and were refused: list, verify, export.")
_MOST = 10_000


@operator_command(
    app,
    "list",
    examples="""
      restic-manager audit list --since 7d
      restic-manager audit list --who ana --limit 20
    """,
)
def list_rows(
    operator: Operator,
    *,
    since: Annotated[
        str | None, value("--since", "WHEN", "From then on: 7d or 12h ago, a date (UTC), or RFC 3339.")
    ] = None,
    who: Annotated[str | None, value("--who", "NAME", "Only of this user or token.")] = None,
    limit: Annotated[str | None, value("--limit", "N", "At most so many, newest first. [default: 100]")] = None,
) -> None:
    """List what operators changed and what was refused, newest first; --json has what was before and after."""
    most = None if limit is None else whole_number(limit, "--limit", least=1, most=_MOST)
    now = operator.now()
    rows = operator.client.audit(
        since=None if since is None else since_when(since, now, "--since"), who=who, limit=most
    )
    if operator.as_json:
        operator.screen.data(rows)
        return
    operator.screen.table(
        ["ROW", "WHEN", "WHO", "DID", "TO", "RESULT", "CHANGED"],
        (
            (str(row.seq), when(row.at, now), row.who, row.operation, row.object or "", row.outcome, _changed(row))
            for row in rows
        ),
        empty="nothing was changed or refused yet",
    )


@operator_command(app, "verify")
def verify(operator: Operator) -> int:
    """Say whether every row fits the one before it, and the first that does not (exit code 1).

    Keep the number and hash it prints somewhere else: who later finds another hash at that number knows that the
    audit was written anew.
    """
    check = operator.client.audit_check()
    if operator.as_json:
        operator.screen.data(check)
    elif check.broken is not None:
        operator.screen.say(f"row {check.broken} does not fit: {check.problem}; {check.rows:,} rows before it do")
    elif check.first is None:
        operator.screen.say("there are no rows yet")
    else:
        operator.screen.say(
            f"all {check.rows:,} rows fit, {check.first} to {check.last}; the hash of the last is {check.hash}"
        )
    return exits.DONE if check.broken is None else exits.FAILED


@operator_command(
    app,
    "export",
    examples="""
      restic-manager audit export > audit.jsonl
    """,
)
def export(operator: Operator) -> None:
    """Print every row, oldest first, a line of JSON each, so that their hashes can be checked without this program."""
    for line in operator.client.audit_lines():
        operator.screen.raw(line + b"\n")


def _changed(row: AuditView) -> str:
    return listing(sorted({*row.before, *row.after}), most=3)
