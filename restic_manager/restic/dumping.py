"""Kind `dump`: one file of a snapshot, byte for byte. What it is and how long is asked first, so that nothing of a file
that is too long, and nothing of what is no file, is ever sent.
"""

from __future__ import annotations

import posixpath

from restic_manager.domain.model import Outcome, Status
from restic_manager.domain.pathtext import path_to_text, text_to_path
from restic_manager.domain.specs import DumpSpec, LsSpec
from restic_manager.restic.answers.dumping import DumpReader, NodeReader
from restic_manager.restic.answers.reader import Finding
from restic_manager.restic.commands import reading
from restic_manager.restic.output import clean
from restic_manager.restic.verdict import failure
from restic_manager.restic.work import Work


async def dump(work: Work, spec: DumpSpec) -> Outcome:
    """Given a checked spec, give the file's bytes as rows and return the outcome."""
    path = plain(spec.path)
    looked = NodeReader(path)
    ran = await work.stage.run(reading.ls_command(work.setting, LsSpec(snapshot=spec.snapshot, path=path)), looked)
    found = looked.finding()
    if ran.end.code != 0 or found.code is not None:
        return work.judged(ran, Finding(None, found.code, found.detail))
    node = looked.node
    if node is None or node.type != "file":
        what = "a folder" if node is None or node.type == "dir" else f"a {node.type}"
        return _refused("not_a_file", f"{clean(path)[:500]} is {what}.")
    if node.size > spec.limit:
        said = f"{clean(path)[:500]} has {node.size:,} bytes, and at most {spec.limit:,} were asked for."
        return _refused("file_too_large", said)
    return await work.simple(reading.dump_command(work.setting, spec.snapshot, path), DumpReader(node.size))


def plain(path: str) -> str:
    """Given an absolute path's text, return the one spelling of it that a snapshot has: no `//`, `.` or `..`."""
    return path_to_text(b"/" + posixpath.normpath(text_to_path(path)).lstrip(b"/"))


def _refused(code: str, detail: str) -> Outcome:
    return Outcome(status=Status.FAILED, exit_code=0, error=failure(code, detail))
