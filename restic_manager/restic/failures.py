"""The classes of failure. Owns every failure code, how restic tells it, and what a person should do about it.

Pure data. The codes are stable: operators and their scripts go by them. Refuses to decide which one a run gets
(`restic.verdict` does).
"""

from __future__ import annotations

from dataclasses import dataclass

from restic_manager.restic.version import Feature


@dataclass(frozen=True, slots=True)
class FailureClass:
    """One class of failure: its code, how restic tells it, and what to do about it.

    exit_code: told by that code from the release on that has `since`. pattern: told by that text in restic's last word
    or its plain stderr, where no exit code tells. began: whether restic may have saved a snapshot before it.
    """

    code: str
    remedy: str
    pattern: str | None = None
    exit_code: int | None = None
    since: Feature | None = None
    began: bool = True


CLASSES: tuple[FailureClass, ...] = (
    FailureClass(
        "repo_missing",
        "There is no repository at this URL. If it was never created, create it (`restic-manager repo init`); if it "
        "was, the URL, the mount or the bucket is not what it used to be: do not create a new one over it.",
        # 0.14's own words. Its next line, "Is there a repository at the following location?", follows a refused
        # connection and a wrong login just the same, so it proves nothing.
        r"unable to open config file: (?:<config/> does not exist|stat .*: no such file or directory"
        r"|.*The specified key does not exist|.*: file does not exist)",
        exit_code=10,
        since=Feature.EXIT_CODES,
        began=False,
    ),
    FailureClass(
        "locked",
        "Another restic holds a lock on the repository. If that process is alive, wait for it; if it is dead, the lock "
        "is stale: `restic-manager repo locks` lists them, `restic-manager repo unlock` removes the stale ones.",
        r"repository is already locked",
        exit_code=11,
        since=Feature.EXIT_CODES,
        began=False,
    ),
    FailureClass(
        "wrong_password",
        "The repository is there, but its password is another one (or its folder `keys` is gone, and with it every way "
        "in). Set the right password for this repository.",
        r"wrong password or no key found",
        exit_code=12,
        since=Feature.PASSWORD_EXIT_CODE,
        began=False,
    ),
    FailureClass(
        "repo_exists",
        "There is a repository at this URL already; nothing was changed. Use it, or choose another URL.",
        r"config file already exists",
        began=False,
    ),
    FailureClass(
        "source_missing",
        "None of the paths to back up exists on this host: mount what is missing, or correct the schedule's paths.",
        r"all (?:target|source) directories/files do not exist",
        began=False,
    ),
    FailureClass(
        "snapshot_missing",
        "There is no such snapshot in this repository: list them, it may have been forgotten or got a new id by a new "
        "tag.",
        r"no matching ID found for prefix|failed to find snapshot|ambiguous (?:ID|prefix)|returned multiple results",
        began=False,
    ),
    FailureClass(
        "no_space",
        "There is no space left: on the repository's side most likely, else in the cache or temporary folder of this "
        "host. Free or add space; pruning a full repository needs some too.",
        r"no space left on device|disk quota exceeded|507 Insufficient Storage|QuotaExceeded"
        r"|413 Request Entity Too Large",
    ),
    FailureClass(
        "access_denied",
        "The storage refuses this: check the user, key or token of this repository and what it may do there. Where the "
        "repository is append-only for this host, what removes or changes snapshots is for its maintainer to do.",
        r"\b40[13] (?:Unauthorized|Forbidden)|\(40[13]\)|Access ?Denied|SignatureDoesNotMatch|InvalidAccessKeyId"
        r"|AuthorizationFailure|AuthenticationFailed|bad_auth_token|Permission denied \(|ssh: handshake failed"
        r"|Host key verification failed",
    ),
    FailureClass(
        "permission",
        "This host's own rules forbid it: the agent's user may not read or write a file that restic needs (repository "
        "folder, cache, key file). Run the agent as root, or give its user that right.",
        r"permission denied|operation not permitted|read-only file system",
    ),
    FailureClass(
        "repo_damaged",
        "The repository cannot be read as it is. Do not prune or re-create it: run `restic check`, and keep what is "
        "there.",
        r"config or key \S+ is damaged|ciphertext verification failed|does not match id|invalid data returned"
        r"|repository contains errors|packs from index missing in repo|Pack ID does not match",
    ),
    FailureClass(
        "repo_too_new",
        "The repository has a format that this restic does not know: install a newer restic on this host.",
        r"unsupported repository version|unsupported version",
        began=False,
    ),
    FailureClass(
        "network",
        "The repository could not be reached, or the connection broke: check that its server is up, and the network, "
        "name and firewall between it and this host. The next run tries again by itself.",
        r"connection refused|connection reset|no such host|i/o timeout|network is unreachable|no route to host"
        r"|broken pipe|TLS handshake|x509:|server misbehaving|context deadline exceeded|Client\.Timeout"
        r"|dial (?:tcp|unix)|unexpected EOF|: EOF\b|connection timed out|could not resolve|ssh: connect to host"
        r"|\b50[0234] [A-Z]"
        r"|unable to start the sftp session|use of closed network connection|http2: ",
    ),
)
"""In order: the first that fits is the class."""

REMEDIES: dict[str, str] = {entry.code: entry.remedy for entry in CLASSES} | {
    "cancelled": "Stopped because that was asked for.",
    "time_limit": "Stopped at its time limit. Raise the limit, back up less, or find out what slows it down.",
    "stalled": "Stopped because it made no progress for its stall limit: look for a dead mount or a hanging "
    "connection.",
    "killed": "Something other than us killed restic. Signal 9 is most often the kernel short of memory (see its log): "
    "give the host more memory, or restic less to do at once.",
    "source_unreadable": "Some files could not be read; the snapshot is there without them. Exclude them, or let the "
    "agent read them.",
    "no_summary": "restic ended without saying what it did, and no snapshot of this job was found: see the log, and "
    "run it again.",
    "unkillable": "restic does not end even when killed: it hangs in the kernel, on a dead mount most often. It holds "
    "up nothing here any more, but the host needs a look (and perhaps a restart).",
    "restic_missing": "Install restic on this host, or tell the agent where it is.",
    "restic_too_old": "Install a newer restic on this host, or leave out what needs it.",
    "restic_broken": "Reinstall restic on this host: what is there cannot be run.",
    "command_too_long": "There are too many paths or patterns for one command line: put the patterns in an exclude "
    "file on the host, or split the schedule.",
    "no_resources": "This host has no process or memory to spare for restic: see what uses it up. The next run "
    "tries again.",
    "invalid_input": "This cannot be handed to restic as it is written: correct the schedule or the repository.",
    "path_missing": "The snapshot does not have this path: look at the folder above it.",
    "not_a_file": "Only a regular file can be read out of a snapshot: list what is there, or restore it.",
    "file_too_large": "Nothing of it was sent. Restore it to a folder on a host, or ask for it with a higher limit.",
    "dump_incomplete": "What came is not the file: run a check that reads the data.",
    "nothing_restored": "Nothing in the snapshot matches what was asked for, so nothing was written: look at the "
    "snapshot's paths.",
    "restore_incomplete": "Some files could not be restored; the others are there. The lines name them.",
    "restore_target": "Nothing was written: choose another folder, or say what is to happen to what is there "
    "(--overwrite).",
    "retention_refused": "Nothing was removed for it: look at the schedule's retention and at the clocks of its hosts.",
    "source_repo_failed": "The repository to copy from could not be opened; nothing was changed in the other one.",
    "verify_failed": "What was restored is not what the snapshot says. Run a check that reads the data, and do not "
    "prune this repository before it is understood.",
    "live_differs": "The restore is right by the snapshot's own record, but the host's file has the same size and time "
    "and other content: a disk that corrupts data, or a program that sets times back.",
    "nothing_to_verify": "There was no file to prove a restore with: the snapshot has none, or none that fits the "
    "sample's size.",
    "failed": "restic failed: its own words are in the lines below and in the log.",
}
"""Every failure code there is, with what to do about it."""
