"""Every kind of job: results, listings, snapshots, sizes, and what a repository and a schedule need for them.

Frozen: written once, never edited after a release (a change of the schema is a further revision). Instants are plain
integers here, so that this module does not change with the program's own types. Only adds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns and the tables."""
    op.add_column("hosts", sa.Column("machine", sa.Text(), nullable=True))
    op.add_column("repos", sa.Column("append_only", sa.Boolean(), server_default="0", nullable=False))
    op.add_column("repos", sa.Column("max_parallel", sa.Integer(), server_default="4", nullable=False))
    for name, kind in (
        ("chunker_from", sa.String(length=64)),
        ("maintainer_id", sa.String(length=64)),
        ("maintainer_url", sa.Text()),
    ):
        op.add_column("repos", sa.Column(name, kind, nullable=True))
    op.add_column("repos", sa.Column("maintainer_env_names", sa.Text(), server_default="[]", nullable=False))
    for name, number in (
        ("part_read", sa.Integer()),
        ("parts", sa.Integer()),
        ("listed_at", sa.BigInteger()),
        ("changed_at", sa.BigInteger()),
    ):
        op.add_column("repos", sa.Column(name, number, nullable=True))
    op.add_column("schedules", sa.Column("retention", sa.Text(), nullable=True))
    op.add_column("schedules", sa.Column("guards", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("result", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("caused_by", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("rows_kept", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("rows_text", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("source_repo_id", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("told", sa.String(length=64), nullable=True))
    op.create_index("ix_jobs_repo_status_serial", "jobs", ["repo_id", "status", "serial"], unique=False)
    op.create_index("ix_jobs_source_status", "jobs", ["source_repo_id", "status"], unique=False)
    op.create_index("ix_jobs_host_kind_serial", "jobs", ["host_id", "kind", "serial"], unique=False)
    _listings()
    _snapshots()


def _listings() -> None:
    op.create_table(
        "job_rows",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("first_row", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_rows_job_id")),
        sa.PrimaryKeyConstraint("job_id", "first_row", name=op.f("pk_job_rows")),
    )
    op.create_index("ix_job_rows_at", "job_rows", ["at"], unique=False)
    op.create_table(
        "repo_sizes",
        sa.Column("repo_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("uncompressed", sa.BigInteger(), nullable=True),
        sa.Column("snapshots", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repo_id"], ["repos.id"], name=op.f("fk_repo_sizes_repo_id")),
        sa.PrimaryKeyConstraint("repo_id", "at", name=op.f("pk_repo_sizes")),
    )


def _snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("repo_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("restic_host", sa.Text(), nullable=False),
        sa.Column("schedule_id", sa.String(length=64), nullable=True),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("tree", sa.Text(), nullable=True),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.Column("original", sa.String(length=64), nullable=True),
        sa.Column("program", sa.Text(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("data_added", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["repo_id"], ["repos.id"], name=op.f("fk_snapshots_repo_id")),
        sa.PrimaryKeyConstraint("repo_id", "id", name=op.f("pk_snapshots")),
    )
    op.create_index("ix_snapshots_repo_time", "snapshots", ["repo_id", "time"], unique=False)
    op.create_index("ix_snapshots_time", "snapshots", ["time"], unique=False)
    op.create_index("ix_snapshots_id", "snapshots", ["id"], unique=False)
    op.create_index("ix_snapshots_host_time", "snapshots", ["restic_host", "time"], unique=False)
    op.create_index("ix_snapshots_schedule_time", "snapshots", ["schedule_id", "time"], unique=False)
