"""Rotated and revoked credentials, and machines that announce themselves and wait for approval.

Frozen: written once, never edited after a release (a change of the schema is a further revision). Credentials that a
later join replaced were known by their invites until now: they are written down where all that are past are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_TEXT_64 = sa.String(64)


def upgrade() -> None:
    """Add the columns and tables, and fill in what the rows tell."""
    for name, kind in (
        ("credential_at", sa.BigInteger()),
        ("next_credential_sha256", _TEXT_64),
        ("rotation_asked_at", sa.BigInteger()),
        ("revoked_at", sa.BigInteger()),
        ("purge_at", sa.BigInteger()),
    ):
        op.add_column("hosts", sa.Column(name, kind))
    op.create_index("ix_hosts_next_credential_sha256", "hosts", ["next_credential_sha256"])
    op.create_table(
        "past_credentials",
        sa.Column("credential_sha256", _TEXT_64, nullable=False),
        sa.Column("host_id", _TEXT_64, nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("credential_sha256", name="pk_past_credentials"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_past_credentials_host_id"),
    )
    op.create_index("ix_past_credentials_host_id", "past_credentials", ["host_id"])
    op.create_table(
        "pending_hosts",
        sa.Column("fingerprint", _TEXT_64, nullable=False),
        sa.Column("public_key", _TEXT_64, nullable=False),
        sa.Column("credential_sha256", _TEXT_64, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("os", sa.Text(), nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("rejected_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_pending_hosts"),
    )
    op.create_index("ix_pending_hosts_network", "pending_hosts", ["network"])
    op.create_index("ix_pending_hosts_last_at", "pending_hosts", ["last_at"])
    op.execute(
        sa.text(
            "INSERT INTO past_credentials (credential_sha256, host_id, ended_at, why) "
            "SELECT invites.joined_sha256, invites.host_id, COALESCE(hosts.removed_at, invites.used_at), "
            "CASE WHEN hosts.removed_at IS NULL THEN 'replaced' ELSE 'removed' END "
            "FROM invites JOIN hosts ON hosts.id = invites.host_id "
            "WHERE invites.joined_sha256 IS NOT NULL "
            "AND (hosts.credential_sha256 IS NULL OR hosts.credential_sha256 <> invites.joined_sha256)"
        )
    )
    op.execute(
        sa.text(
            "UPDATE hosts SET credential_at = (SELECT MAX(invites.used_at) FROM invites "
            "WHERE invites.joined_sha256 = hosts.credential_sha256) WHERE credential_sha256 IS NOT NULL"
        )
    )
