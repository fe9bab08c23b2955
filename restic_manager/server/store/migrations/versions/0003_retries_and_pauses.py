"""Retries, limits and pauses: what a schedule allows, when an attempt has its turn, and when nothing is to run.

Frozen: written once, never edited after a release (a change of the schema is a further revision). Instants are plain
integers here, so that this module does not change with the program's own types. Only adds: no row needs rewriting, and
schedules made before it get the defaults.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("schedules", sa.Column("retry", sa.Integer(), server_default="0", nullable=False))
    op.add_column("schedules", sa.Column("retry_backoff", sa.BigInteger(), server_default="300", nullable=False))
    op.add_column("schedules", sa.Column("time_limit", sa.BigInteger(), nullable=True))
    op.add_column("schedules", sa.Column("stall_limit", sa.BigInteger(), server_default="1800", nullable=True))
    op.add_column("assignments", sa.Column("off_reason", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("not_before", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("limits", sa.Text(), nullable=True))
    op.create_index("ix_jobs_not_before", "jobs", ["not_before"], unique=False)
    op.create_table(
        "pauses",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("host_id", sa.String(length=64), nullable=True),
        sa.Column("schedule_id", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_pauses_host_id")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], name=op.f("fk_pauses_schedule_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
    )
    op.create_index("ix_pauses_ended_at", "pauses", ["ended_at"], unique=False)
