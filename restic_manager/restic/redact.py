"""Which parts of a repository's access are secret. Pure; taking them out of text is `runtime.redact`'s.

Every variable that a repository brings is taken for a secret unless it is known to be none: a list of what is harmless
has an end, a list of what a name can mean has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from restic_manager.domain.model import RepoAccess
from restic_manager.restic.output import Redact
from restic_manager.runtime.redact import Redactor

NOT_SECRET: Final = frozenset(
    {
        "RESTIC_REST_USERNAME", "RESTIC_COMPRESSION", "RESTIC_PACK_SIZE", "RESTIC_READ_CONCURRENCY", "RESTIC_KEY_HINT",
        "RESTIC_CACERT", "RESTIC_TLS_CLIENT_CERT", "RESTIC_FEATURES", "RESTIC_HTTP_USER_AGENT", "GOMAXPROCS", "GOGC",
        "GOMEMLIMIT", "TMPDIR", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "RESTIC_AWS_ASSUME_ROLE_ARN",
        "RESTIC_AWS_ASSUME_ROLE_SESSION_NAME", "RESTIC_AWS_ASSUME_ROLE_REGION", "RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT",
        "RESTIC_AWS_ASSUME_ROLE_POLICY", "AZURE_ACCOUNT_NAME", "AZURE_ENDPOINT_SUFFIX", "GOOGLE_PROJECT_ID",
        "GOOGLE_APPLICATION_CREDENTIALS", "ST_AUTH", "ST_USER", "OS_AUTH_URL", "OS_REGION_NAME", "OS_USERNAME",
        "OS_TENANT_NAME", "OS_USER_DOMAIN_NAME", "OS_USER_DOMAIN_ID", "OS_PROJECT_NAME", "OS_PROJECT_DOMAIN_NAME",
        "OS_PROJECT_DOMAIN_ID", "OS_APPLICATION_CREDENTIAL_NAME", "OS_STORAGE_URL", "SWIFT_DEFAULT_CONTAINER_POLICY",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
        "SSL_CERT_DIR", "SSH_AUTH_SOCK",
    }
)  # fmt: skip
"""Variables whose values may be read by anybody, and that a log is hard to understand without."""


def redactor(*repos: RepoAccess) -> Redact:
    """Given repositories' access, return the function that takes their secrets out of any text."""
    return Redactor(secret for repo in repos for secret in secrets_of(repo)).text


def secrets_of(repo: RepoAccess) -> Iterator[str]:
    """Given a repository's access, yield what of it must not be read anywhere."""
    if repo.password is not None:
        yield repo.password
    yield from (value for name, value in repo.env.items() if name not in NOT_SECRET)
    # Whatever stands between a colon and the @ of an authority, in any scheme and both spellings of a proxy's URL.
    for url in (repo.url, *(value for name, value in repo.env.items() if name in NOT_SECRET)):
        match = re.search(r"//[^/@:]*:([^/]*)@", url)
        if match is not None:
            yield match[1]
            yield unquote(match[1])
