"""THE table: which role each operation needs. What is not in it is refused, to everybody.

Decides who may ask for what; refuses to know who asks, and what an operation does.
"""

from __future__ import annotations

from typing import Final

from restic_manager.domain.errors import NotPermittedError
from restic_manager.domain.roles import Role

ROLES: Final[dict[str, Role]] = {
    # Reads: nothing is changed. (A viewer's `refresh` of a list of snapshots has hosts read a repository again.)
    "healthz": Role.VIEWER,
    "metrics": Role.VIEWER,
    "server_show": Role.VIEWER,
    "status": Role.VIEWER,
    "whoami": Role.VIEWER,
    "certificate_show": Role.VIEWER,
    "host_list": Role.VIEWER,
    "host_show": Role.VIEWER,
    "pending_list": Role.VIEWER,
    "repo_list": Role.VIEWER,
    "repo_show": Role.VIEWER,
    "repo_sizes": Role.VIEWER,
    "repo_maintenance": Role.VIEWER,
    "snapshot_list": Role.VIEWER,
    "snapshot_show": Role.VIEWER,
    "schedule_list": Role.VIEWER,
    "schedule_show": Role.VIEWER,
    "schedule_next": Role.VIEWER,
    "schedule_history": Role.VIEWER,
    "schedule_why": Role.VIEWER,
    "job_list": Role.VIEWER,
    "job_show": Role.VIEWER,
    "job_events": Role.VIEWER,
    "pause_list": Role.VIEWER,
    # Runs and schedules. A job's rows are among them: they can be the content of files.
    "job_rows": Role.OPERATOR,
    "job_ask": Role.OPERATOR,
    "job_cancel": Role.OPERATOR,
    "repo_init": Role.OPERATOR,
    "schedule_add": Role.OPERATOR,
    "schedule_edit": Role.OPERATOR,
    "schedule_remove": Role.OPERATOR,
    "schedule_run": Role.OPERATOR,
    "schedule_forget_preview": Role.OPERATOR,
    "pause": Role.OPERATOR,
    "resume": Role.OPERATOR,
    "host_pause": Role.OPERATOR,
    "host_resume": Role.OPERATOR,
    "schedule_pause": Role.OPERATOR,
    "schedule_resume": Role.OPERATOR,
    # Trust and secrets. Labels are among them: they decide which schedules a host gets, and with them which secrets.
    "host_invite": Role.ADMIN,
    "host_label": Role.ADMIN,
    "host_rename": Role.ADMIN,
    "host_remove": Role.ADMIN,
    "host_rotate": Role.ADMIN,
    "host_revoke": Role.ADMIN,
    "pending_approve": Role.ADMIN,
    "pending_reject": Role.ADMIN,
    "repo_add": Role.ADMIN,
    "repo_edit": Role.ADMIN,
    "repo_remove": Role.ADMIN,
    "repo_maintain": Role.ADMIN,
    "repo_set_secret": Role.ADMIN,
    "certificate_rotate": Role.ADMIN,
    "key_rotate": Role.ADMIN,
    "token_create": Role.ADMIN,
    "token_list": Role.ADMIN,
    "token_revoke": Role.ADMIN,
    "audit_list": Role.ADMIN,
    "audit_verify": Role.ADMIN,
    "audit_export": Role.ADMIN,
}


def refuse_unless_allowed(operation: str, who: str, role: Role) -> None:
    """Given an operation's name and who asks with which role, return if that will do; raise NotPermittedError."""
    needed = ROLES.get(operation)
    if needed is None:
        raise NotPermittedError(f"{operation} needs a role that nobody has: it is not in the table of roles")
    if not role.covers(needed):
        raise NotPermittedError(
            f"{operation} needs the role {needed}, and {who} has the role {role}: ask an admin, or use another token"
        )
