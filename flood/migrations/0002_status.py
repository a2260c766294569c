"""Indices from which flood-status counts, however many records there are."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


# With the size in it nothing but the index is read to add up what waits. Records reach completed
# in the order of time, so that each bucket's part of its index grows at its end only.
STATEMENTS = (
    "DROP INDEX IF EXISTS file_records_due",
    """
    CREATE INDEX file_records_due
        ON file_records (profile, bucket, next_attempt_at, id, size)
        WHERE current_state = 'processing' AND owner IS NULL
    """,
    """
    CREATE INDEX file_records_completed
        ON file_records (profile, bucket, completed_at, size) WHERE current_state = 'completed'
    """,
    """
    CREATE INDEX file_records_failed
        ON file_records (profile, bucket, error_code, completed_at) WHERE current_state = 'failed'
    """,
)
