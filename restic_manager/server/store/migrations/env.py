"""What Alembic runs: the migrations, on the connection (and in the transaction) that `bring_up` hands over."""

from __future__ import annotations

from alembic import context

from restic_manager.server.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
with context.begin_transaction():
    context.run_migrations()
