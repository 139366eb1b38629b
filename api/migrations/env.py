"""Runs migrations on the connection that footplate_api.db.migrate hands over.

That connection is inside a transaction and holds the lock; Alembic joins it.
"""

from alembic import context

from footplate_api.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
