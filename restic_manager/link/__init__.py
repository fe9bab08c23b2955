"""Floor 3. A typed message channel over one WebSocket, for both ends. This room alone knows trio-websocket.

`dial` and `answer` make a link (handshake.py), `Link` carries messages (channel.py), over a wire that knows who heard
what when (wire.py).
"""

from restic_manager.link.channel import Incoming, Link, LinkClosed
from restic_manager.link.handshake import (
    AGENT_PATH,
    ANNOUNCE_PATH,
    JOIN_PATH,
    Admission,
    Knock,
    answer,
    dial,
    http_refusal,
    shown_pin,
)

__all__ = [
    "AGENT_PATH",
    "ANNOUNCE_PATH",
    "JOIN_PATH",
    "Admission",
    "Incoming",
    "Knock",
    "Link",
    "LinkClosed",
    "answer",
    "dial",
    "http_refusal",
    "shown_pin",
]
