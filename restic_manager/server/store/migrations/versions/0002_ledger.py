"""The ledger says who recorded a fate, and finds the latest of one sort. Frozen like every migration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Every fate so far was told by an agent, or was written with its job."""
    op.add_column("fates", sa.Column("decided_by", sa.String(length=16), nullable=False, server_default="agent"))
    op.create_index("ix_fates_fate_recorded", "fates", ["fate", "recorded_at"], unique=False)
