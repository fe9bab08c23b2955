"""Floor 4. The operator's client: every question and order of `protocol/api.py`, asked of one server over HTTP.

Small and synchronous, without trio: for the command line, for scripts and for tests.

    client = Client(ServerAddress.parse("/var/lib/restic-manager/server.sock"))
    for job in client.jobs(status=Status.FAILED):
        print(job.host, job.error)
"""

from restic_manager.client.address import ServerAddress
from restic_manager.client.operations import DEFAULT_TIMEOUT, Client

__all__ = ["DEFAULT_TIMEOUT", "Client", "ServerAddress"]
