"""What the files in a server's data directory are called. Knows nothing else."""

from __future__ import annotations

from typing import Final

DATABASE: Final = "server.db"
KEY_FILE: Final = "server.key"
LOCK: Final = "server.lock"
"""What `runtime.datadir.lock` makes for a server."""
RESTORING: Final = "server.restoring"
"""There while a restore puts its files in place: with it no server starts."""
CERTIFICATE: Final = "server-tls.pem"
"""The server's own key and certificate, in one file, so that one is never without the other."""
NEXT_CERTIFICATE: Final = "server-tls-next.pem"
"""Those that come after them, and from when on."""
CERTIFICATES: Final = (CERTIFICATE, NEXT_CERTIFICATE)
