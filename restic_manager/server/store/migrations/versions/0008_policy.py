"""What hosts allow, and hooks: kinds as a host tells them, repositories that an invite brings, hooks of schedules.

Frozen: written once, never edited after a release (a change of the schema is a further revision). Only adds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("hosts", sa.Column("kinds", sa.Text(), nullable=True))
    op.add_column("invites", sa.Column("repositories", sa.Text(), nullable=True))
    op.add_column("schedules", sa.Column("hooks", sa.Text(), nullable=True))
