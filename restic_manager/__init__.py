"""restic-manager: restic backups of a whole fleet, scheduled on the hosts, accounted for in one place.

The folders are floors; each imports only from those below it: `cli` > `server`, `agent`, `client` > `link`, `config`,
`secrets`, `restic` > `runtime` > `protocol` > `domain`.
"""

__version__ = "0.1.0"
