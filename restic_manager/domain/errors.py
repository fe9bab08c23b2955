"""The errors that cross rooms: what the caller should do, and a stable code.

A failed backup is a value (`Outcome`), not one of these. Raise one of these where we could not find out, or where what
was asked cannot be done; each edge (a command, an API request, a session) maps them once.
"""

from __future__ import annotations

from typing import ClassVar


class ManagerError(Exception):
    """Base of all our errors. `code` is stable and machine-readable; the message names the value and the remedy."""

    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    @property
    def message(self) -> str:
        """The sentence to show to a person."""
        return str(self.args[0])


class InputError(ManagerError):
    """The request cannot be right as it is written: change it. Nothing was stored."""

    default_code = "invalid_input"


class NotFoundError(ManagerError):
    """No such host, repository, schedule or job, or the name fits several."""

    default_code = "not_found"


class ConflictError(ManagerError):
    """The request is well formed but does not fit what exists now (a name in use, a job already over)."""

    default_code = "conflict"


class UnreachableError(ManagerError):
    """The server could not be reached: try again, or say where it is."""

    default_code = "server_unreachable"


class UntrustedError(UnreachableError):
    """Somebody answers at the server's address, and it is not the server: nothing was said to it.

    `pin` is what its certificate has, where a pin decides. Trying again can help: who is in between may go away.
    """

    default_code = "server_untrusted"

    def __init__(self, message: str, *, pin: str | None = None) -> None:
        super().__init__(message)
        self.pin = pin


class NotPermittedError(ManagerError):
    """Known, but not allowed."""

    default_code = "not_permitted"


class RefusedError(ManagerError):
    """The peer said no and said why. `retry`: asking again can help, but not before `retry_after` (seconds)."""

    default_code = "refused"

    def __init__(
        self, message: str, *, code: str | None = None, retry: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry = retry
        self.retry_after = retry_after or 0.0


class StorageError(ManagerError):
    """A data directory or database cannot be used as it is: full, read-only, locked, damaged, newer than we are."""

    default_code = "storage"
