"""The questions: one method an operation of `protocol/api.py`.

Owns which request each becomes. It refuses to know terminals, exit codes and where the caller found the address.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from restic_manager.client.address import ServerAddress
from restic_manager.client.exchange import Exchange, part, query_text
from restic_manager.client.trust import TrustQuestions
from restic_manager.domain.instants import instant_text
from restic_manager.domain.model import Status
from restic_manager.protocol import api

DEFAULT_TIMEOUT = 30.0
"""Seconds a question may take, connecting included. A followed stream may be silent for as long as it likes."""


class Client(TrustQuestions):
    """One server, as an operator sees it.

    Every method raises a ManagerError with the server's own code when it says no, and UnreachableError when it says
    nothing.
    """

    def __init__(self, server: ServerAddress, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Given an address, hold it: nothing is connected before the first question. `timeout` is in seconds."""
        self.address = server
        self._exchange = Exchange(server, timeout=timeout)

    # -- server -------------------------------------------------------------------------------------------------------

    def server(self) -> api.ServerView:
        """Return the server itself: version, epoch, since when, where."""
        return self._exchange.ask("GET", "/v1/server", api.ServerView)

    def status(self) -> api.StatusView:
        """Return the fleet at a glance."""
        return self._exchange.ask("GET", "/v1/status", api.StatusView)

    def certificate(self) -> api.CertificateView:
        """Return the certificate by which hosts know the server."""
        return self._exchange.ask("GET", "/v1/server/certificate", api.CertificateView)

    def rotate_certificate(self, request: api.RotateRequest) -> api.CertificateView:
        """Make the next certificate, or show it from now on; return how that stands."""
        return self._exchange.ask("POST", "/v1/server/certificate/rotate", api.CertificateView, request)

    def rotate_key(self) -> api.KeyView:
        """Give the server's secrets a new key; return how many are sealed with it."""
        return self._exchange.ask("POST", "/v1/server/key/rotate", api.KeyView)

    # -- hosts --------------------------------------------------------------------------------------------------------

    def invite_host(self, request: api.InviteRequest) -> api.InviteView:
        """Given a name, return a single-use token for it."""
        return self._exchange.ask("POST", "/v1/hosts/invite", api.InviteView, request)

    def hosts(self) -> list[api.HostView]:
        """Return all hosts."""
        return self._exchange.ask("GET", "/v1/hosts", list[api.HostView])

    def host(self, ref: str) -> api.HostView:
        """Given a name or unique id prefix, return the host."""
        return self._exchange.ask("GET", f"/v1/hosts/{part(ref, 'host')}", api.HostView)

    def label_host(self, ref: str, request: api.LabelRequest) -> api.HostView:
        """Given a host and labels to set and take away, return the host as it is then."""
        return self._exchange.ask("POST", f"/v1/hosts/{part(ref, 'host')}/labels", api.HostView, request)

    def rename_host(self, ref: str, request: api.RenameRequest) -> api.HostView:
        """Given a host and a new name, return the host as it is then."""
        return self._exchange.ask("POST", f"/v1/hosts/{part(ref, 'host')}/rename", api.HostView, request)

    def remove_host(self, ref: str, *, purge: bool = False) -> api.HostView:
        """Given a host, forget it (purge: and its history) and return what it was."""
        query = "?purge=1" if purge else ""
        return self._exchange.ask("DELETE", f"/v1/hosts/{part(ref, 'host')}{query}", api.HostView)

    def rotate_host(self, ref: str) -> api.HostView:
        """Given a host, have it replace its credential; return it as it is until then."""
        return self._exchange.ask("POST", f"/v1/hosts/{part(ref, 'host')}/rotate", api.HostView)

    def revoke_host(self, ref: str) -> api.HostView:
        """Given a host, refuse it until it joins again."""
        return self._exchange.ask("POST", f"/v1/hosts/{part(ref, 'host')}/revoke", api.HostView)

    def pending(self) -> list[api.PendingView]:
        """Return the machines that wait for approval."""
        return self._exchange.ask("GET", "/v1/pending", list[api.PendingView])

    def approve(self, fingerprint: str, request: api.ApproveRequest) -> api.HostView:
        """Given the fingerprint of a machine that waits, return the host that it is now."""
        return self._exchange.ask("POST", f"/v1/pending/{part(fingerprint, 'machine')}/approve", api.HostView, request)

    def reject(self, fingerprint: str) -> api.PendingView:
        """Given the fingerprint of a machine that waits, say no to it."""
        return self._exchange.ask("POST", f"/v1/pending/{part(fingerprint, 'machine')}/reject", api.PendingView)

    # -- repositories -------------------------------------------------------------------------------------------------

    def add_repo(self, request: api.RepoRequest) -> api.RepoView:
        """Given a repository and its secrets, return it; with its password once, if the server made that."""
        return self._exchange.ask("POST", "/v1/repos", api.RepoView, request)

    def repos(self) -> list[api.RepoView]:
        """Return all repositories."""
        return self._exchange.ask("GET", "/v1/repos", list[api.RepoView])

    def repo(self, ref: str) -> api.RepoView:
        """Given a name or unique id prefix, return the repository."""
        return self._exchange.ask("GET", f"/v1/repos/{part(ref, 'repository')}", api.RepoView)

    def init_repo(self, ref: str, request: api.InitRequest) -> api.JobView:
        """Given a repository and a host, return the job that creates it there."""
        return self._exchange.ask("POST", f"/v1/repos/{part(ref, 'repository')}/init", api.JobView, request)

    def remove_repo(self, ref: str) -> api.RepoView:
        """Given a repository, forget it and return what it was."""
        return self._exchange.ask("DELETE", f"/v1/repos/{part(ref, 'repository')}", api.RepoView)

    def set_secrets(self, ref: str, request: api.SecretsRequest) -> api.SecretsView:
        """Given a repository and what opens it from now on, keep that, and return what was changed."""
        path = f"/v1/repos/{part(ref, 'repository')}/secrets"
        return self._exchange.ask("POST", path, api.SecretsView, request)

    def edit_repo(self, ref: str, request: api.RepoEdit) -> api.RepoView:
        """Given a repository and what to change of it, return it as it is then."""
        return self._exchange.ask("PATCH", f"/v1/repos/{part(ref, 'repository')}", api.RepoView, request)

    def maintenance(self, ref: str) -> api.MaintenanceView:
        """Given a repository, return what looks after it."""
        return self._exchange.ask("GET", f"/v1/repos/{part(ref, 'repository')}/maintenance", api.MaintenanceView)

    def maintain_repo(self, ref: str, request: api.MaintenanceRequest) -> api.MaintenanceView:
        """Given a repository and what of its maintenance to change, return what looks after it then."""
        path = f"/v1/repos/{part(ref, 'repository')}/maintenance"
        return self._exchange.ask("POST", path, api.MaintenanceView, request)

    def sizes(self, ref: str) -> list[api.SizeView]:
        """Given a repository, return how large it was each time it was measured."""
        return self._exchange.ask("GET", f"/v1/repos/{part(ref, 'repository')}/sizes", list[api.SizeView])

    # -- schedules ----------------------------------------------------------------------------------------------------

    def add_schedule(self, request: api.ScheduleRequest) -> api.ScheduleView:
        """Given when, where and what, return the schedule."""
        return self._exchange.ask("POST", "/v1/schedules", api.ScheduleView, request)

    def schedules(self) -> list[api.ScheduleView]:
        """Return all schedules."""
        return self._exchange.ask("GET", "/v1/schedules", list[api.ScheduleView])

    def schedule(self, ref: str) -> api.ScheduleView:
        """Given a name or unique id prefix, return the schedule."""
        return self._exchange.ask("GET", f"/v1/schedules/{part(ref, 'schedule')}", api.ScheduleView)

    def edit_schedule(self, ref: str, request: api.ScheduleEdit) -> api.ScheduleView:
        """Given a schedule and what to change of it, return it as it is then."""
        return self._exchange.ask("PATCH", f"/v1/schedules/{part(ref, 'schedule')}", api.ScheduleView, request)

    def remove_schedule(self, ref: str) -> api.ScheduleView:
        """Given a schedule, remove it and return what it was."""
        return self._exchange.ask("DELETE", f"/v1/schedules/{part(ref, 'schedule')}", api.ScheduleView)

    def run_schedule(self, ref: str, request: api.RunRequest) -> list[api.JobView]:
        """Given a schedule, and perhaps one of its hosts, return the jobs that run its work now."""
        return self._exchange.ask("POST", f"/v1/schedules/{part(ref, 'schedule')}/run", list[api.JobView], request)

    def preview_forget(self, ref: str, request: api.PreviewRequest) -> list[api.JobView]:
        """Given a schedule, and perhaps one of its hosts, return the jobs that find out what would be forgotten."""
        path = f"/v1/schedules/{part(ref, 'schedule')}/forget-preview"
        return self._exchange.ask("POST", path, list[api.JobView], request)

    def next_slots(self, ref: str, *, count: int) -> list[api.NextSlot]:
        """Given a schedule, return its next `count` slots."""
        path = f"/v1/schedules/{part(ref, 'schedule')}/next?{query_text({'count': count})}"
        return self._exchange.ask("GET", path, list[api.NextSlot])

    def history(
        self,
        ref: str,
        *,
        host: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[api.HistoryEntry]:
        """Given a schedule, return what became of its slots, newest first; of this host and time where given."""
        asked = {
            "host": host,
            "since": None if since is None else instant_text(since),
            "until": None if until is None else instant_text(until),
            "limit": limit,
        }
        query = query_text({name: value for name, value in asked.items() if value is not None})
        path = f"/v1/schedules/{part(ref, 'schedule')}/history"
        return self._exchange.ask("GET", f"{path}?{query}" if query else path, list[api.HistoryEntry])

    def why(self, ref: str, *, at: str, host: str | None = None) -> api.WhyView:
        """Given a schedule and an instant (RFC 3339, or local in its zone), return what became of the slot there."""
        query = query_text({"at": at} if host is None else {"at": at, "host": host})
        return self._exchange.ask("GET", f"/v1/schedules/{part(ref, 'schedule')}/why?{query}", api.WhyView)

    # -- pauses -------------------------------------------------------------------------------------------------------

    def pauses(self) -> tuple[api.PauseView, ...]:
        """Return every pause that holds, the oldest first."""
        return self._exchange.ask("GET", "/v1/pauses", tuple[api.PauseView, ...])

    def pause_fleet(self, request: api.PauseRequest) -> tuple[api.PauseView, ...]:
        """Let no slot run anywhere; return the pauses that hold the fleet."""
        return self._exchange.ask("POST", "/v1/pause", tuple[api.PauseView, ...], request)

    def resume_fleet(self) -> tuple[api.PauseView, ...]:
        """End the fleet's pause; return what holds it still: nothing."""
        return self._exchange.ask("POST", "/v1/resume", tuple[api.PauseView, ...])

    def pause_host(self, ref: str, request: api.PauseRequest) -> tuple[api.PauseView, ...]:
        """Given a host, let no slot run there; return the pauses that hold it."""
        return self._exchange.ask("POST", f"/v1/hosts/{part(ref, 'host')}/pause", tuple[api.PauseView, ...], request)

    def resume_host(self, ref: str) -> tuple[api.PauseView, ...]:
        """Given a host, end its pause; return the pauses that hold it still."""
        return self._exchange.ask("POST", f"/v1/hosts/{part(ref, 'host')}/resume", tuple[api.PauseView, ...])

    def pause_schedule(self, ref: str, request: api.PauseRequest) -> tuple[api.PauseView, ...]:
        """Given a schedule, let no slot of it run; return the pauses that hold it."""
        path = f"/v1/schedules/{part(ref, 'schedule')}/pause"
        return self._exchange.ask("POST", path, tuple[api.PauseView, ...], request)

    def resume_schedule(self, ref: str) -> tuple[api.PauseView, ...]:
        """Given a schedule, end its pause; return the pauses that hold it still."""
        return self._exchange.ask("POST", f"/v1/schedules/{part(ref, 'schedule')}/resume", tuple[api.PauseView, ...])

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def jobs(
        self,
        *,
        host: str | None = None,
        schedule: str | None = None,
        status: Status | None = None,
        limit: int | None = None,
    ) -> list[api.JobView]:
        """Return jobs, newest first, of this host, schedule and status where given, at most `limit`."""
        asked = {"host": host, "schedule": schedule, "status": status, "limit": limit}
        query = query_text({name: value for name, value in asked.items() if value is not None})
        return self._exchange.ask("GET", f"/v1/jobs?{query}" if query else "/v1/jobs", list[api.JobView])

    def job(self, ref: str) -> api.JobView:
        """Given an id or a unique prefix of one, return the job."""
        return self._exchange.ask("GET", f"/v1/jobs/{part(ref, 'job')}", api.JobView)

    def cancel_job(self, ref: str) -> api.JobView:
        """Given a job, ask for its end; return it as it is now (a host that has it must answer first)."""
        return self._exchange.ask("POST", f"/v1/jobs/{part(ref, 'job')}/cancel", api.JobView)

    def events(
        self, job_id: str, *, follow: bool = False, logs: bool = True, attempts: bool = False
    ) -> Iterator[api.Event]:
        """Given a job, yield it as it is, its log, and with `follow` what happens until it has ended.

        `attempts` goes on with its next attempt when there is one. A stream that breaks off raises UnreachableError;
        one that ends before the job has ended means that the server is shutting down.
        """
        flags = query_text({"follow": int(follow), "logs": int(logs), "attempts": int(attempts)})
        path = f"/v1/jobs/{part(job_id, 'job')}/events?{flags}"
        return self._exchange.stream(path, msgspec.json.Decoder(api.Event), endless=follow)

    def run_job(self, request: api.JobRequest) -> api.JobView:
        """Given what is to be done on a repository, return the job that does it."""
        return self._exchange.ask("POST", "/v1/jobs", api.JobView, request)

    def rows(self, ref: str, *, after: int = 0, follow: bool = True) -> Iterator[api.RowsLine]:
        """Given a job, yield its listing beyond the first `after` rows; with `follow` until the job has ended.

        The last line is the job as it is then. A stream that breaks off raises UnreachableError; one that ends without
        the job having ended means that the server is shutting down.
        """
        path = f"/v1/jobs/{part(ref, 'job')}/rows?{query_text({'after': after, 'follow': int(follow)})}"
        return self._exchange.stream(path, msgspec.json.Decoder(api.RowsLine), endless=follow)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def snapshots(
        self,
        *,
        host: str | None = None,
        repo: str | None = None,
        schedule: str | None = None,
        path: str | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        latest: bool = False,
        refresh: bool = False,
        after: str | None = None,
    ) -> api.SnapshotsView:
        """Return snapshots, newest first, as they were when their repositories were last listed.

        latest: only the newest of each repository, restic host and schedule. refresh: list anew what has changed since.
        after: `next` of the page before.
        """
        asked = {
            "host": host,
            "repo": repo,
            "schedule": schedule,
            "path": path,
            "tag": tag,
            "since": None if since is None else instant_text(since),
            "until": None if until is None else instant_text(until),
            "limit": limit,
            "latest": 1 if latest else None,
            "refresh": 1 if refresh else None,
            "after": after,
        }
        query = query_text({name: value for name, value in asked.items() if value is not None})
        return self._exchange.ask("GET", f"/v1/snapshots?{query}" if query else "/v1/snapshots", api.SnapshotsView)

    def snapshot(self, ref: str, *, repo: str | None = None) -> api.SnapshotView:
        """Given an id or a unique beginning of one, return the snapshot; repo: in which, where several have it."""
        query = "" if repo is None else f"?{query_text({'repo': repo})}"
        return self._exchange.ask("GET", f"/v1/snapshots/{part(ref, 'snapshot')}{query}", api.SnapshotView)
