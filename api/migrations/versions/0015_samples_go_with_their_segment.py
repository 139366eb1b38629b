"""Samples go with their segment, whichever release deletes that: an id may come back."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_DELETION = "DELETE FROM step_samples WHERE segment_id = OLD.id"
_TRIGGER = "CREATE TRIGGER metric_segments_samples AFTER DELETE ON metric_segments FOR EACH ROW"


def upgrade() -> None:
    op.execute("DELETE FROM step_samples WHERE segment_id NOT IN (SELECT id FROM metric_segments)")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION delete_samples_of_segment() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {_DELETION}; RETURN NULL; END $$"
        )
        op.execute(f"{_TRIGGER} EXECUTE FUNCTION delete_samples_of_segment()")
    else:
        op.execute(f"{_TRIGGER} BEGIN {_DELETION}; END")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER metric_segments_samples ON metric_segments")
        op.execute("DROP FUNCTION delete_samples_of_segment()")
    else:
        op.execute("DROP TRIGGER metric_segments_samples")
