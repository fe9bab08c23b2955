"""Exception groups at a room's edge: what went wrong, without the nurseries it came through. Pure."""

from __future__ import annotations

from restic_manager.domain.errors import ManagerError


def plain(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Given a group, return the one error of ours in it when nothing else went wrong, else the group itself.

    Of several of ours the first is returned: one cause often makes several tasks fail.
    """
    known, rest = group.split(ManagerError)
    if known is None or rest is not None:
        return group
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
