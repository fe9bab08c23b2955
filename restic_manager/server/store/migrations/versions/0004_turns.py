"""Turns: what an interval that a pause stops becomes by itself, and when, so that hosts can be told in advance.

Frozen: written once, never edited after a release (a change of the schema is a further revision). Only adds: intervals
of pauses made before it have no turns until the server looks over them at its next start.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("assignments", sa.Column("turns", sa.Text(), nullable=True))
    op.add_column("assignments", sa.Column("turn_at", sa.BigInteger(), nullable=True))
