"""Secrets that stand on hosts: where, by reference; a maintainer whose login comes with each job; what a probe found.

Frozen: written once, never edited after a release (a change of the schema is a further revision). Only adds: what the
server was given before stays sealed as it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("repos", sa.Column("password_from", sa.Text(), nullable=True))
    op.add_column("repos", sa.Column("env_from", sa.Text(), server_default="{}", nullable=False))
    op.add_column("repos", sa.Column("maintainer_env_from", sa.Text(), server_default="{}", nullable=False))
    op.add_column("repos", sa.Column("maintainer_per_job", sa.Boolean(), server_default="0", nullable=False))
    op.add_column("repos", sa.Column("deletion", sa.String(16), nullable=True))
    op.add_column("repos", sa.Column("probed_at", sa.BigInteger(), nullable=True))
