"""Which parts of a repository's access are secret, and taking them out of text. Pure.

Refuses to guess at secrets that it was not given.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote, unquote

from restic_manager.domain.model import RepoAccess
from restic_manager.restic.output import Redact

_SECRET_NAME = re.compile(r"PASS|SECRET|KEY|TOKEN|SAS|CREDENTIAL", re.IGNORECASE)
_NOT_SECRET = frozenset({"RESTIC_KEY_HINT", "GOOGLE_APPLICATION_CREDENTIALS"})
_SHORTEST = 3
"""Shorter ones are left alone: taking out every `a` would hide everything else, and hide nothing."""


def redactor(repo: RepoAccess) -> Redact:
    """Given a repository's access, return the function that takes its secrets out of any text."""
    spelled = {spelling for secret in _secrets(repo) if len(secret) >= _SHORTEST for spelling in _spellings(secret)}
    if not spelled:
        return lambda text: text
    # Longest first, so that a secret inside another leaves no rest of it.
    pattern = re.compile("|".join(re.escape(word) for word in sorted(spelled, key=lambda word: (-len(word), word))))
    return lambda text: pattern.sub("***", text)


def _secrets(repo: RepoAccess) -> set[str]:
    found = {repo.password}
    found |= {value for name, value in repo.env.items() if _SECRET_NAME.search(name) and name not in _NOT_SECRET}
    # Whatever stands between a colon and the @ of an authority, in any scheme and both spellings of a proxy's URL.
    for url in (repo.url, *(value for name, value in repo.env.items() if name.lower().endswith("_proxy"))):
        match = re.search(r"//[^/@:]*:([^/]*)@", url)
        if match is not None:
            found.add(match[1])
            found.add(unquote(match[1]))
    return found


def _spellings(secret: str) -> set[str]:
    """A secret as it is, in a URL, in JSON, and as Go and we ourselves quote it."""
    return {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], secret.replace("\\", "\\\\")}
