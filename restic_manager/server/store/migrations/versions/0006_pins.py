"""Which pins of the server's certificate each host holds, so that a change of it knows whom it would leave behind.

Frozen: written once, never edited after a release (a change of the schema is a further revision). Only adds: a host
says what it holds at its next hello.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("hosts", sa.Column("pins", sa.Text(), server_default="[]", nullable=False))
