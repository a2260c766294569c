"""What retention and flood-retry note of files that have left completed or failed."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


# The indices hold what lies in completed, in failed, what has left both: each grows with its files
# or records, and is read from its oldest end.
STATEMENTS = (
    "ALTER TABLE file_records ADD COLUMN left_at TEXT",
    """
    ALTER TABLE file_records ADD COLUMN left_how TEXT
        CHECK (left_how IN ('removed', 'retried', 'gone'))
    """,
    "ALTER TABLE file_records ADD COLUMN origin INTEGER",
    """
    CREATE INDEX file_records_in_completed ON file_records (completed_at)
        WHERE current_state = 'completed' AND left_at IS NULL
    """,
    """
    CREATE INDEX file_records_in_failed ON file_records (completed_at)
        WHERE current_state = 'failed' AND left_at IS NULL
    """,
    "CREATE INDEX file_records_left ON file_records (completed_at) WHERE left_at IS NOT NULL",
    "ALTER TABLE spool ADD COLUMN last_pruned_at TEXT",
)
