"""What flood-notify has told somebody, and when it may tell more."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


# The index holds what nobody was told of yet: it is empty but between a failure and its digest.
STATEMENTS = (
    "ALTER TABLE file_records ADD COLUMN told_at TEXT",
    """
    CREATE INDEX file_records_untold ON file_records (completed_at)
        WHERE current_state = 'failed' AND left_at IS NULL AND told_at IS NULL
    """,
    "ALTER TABLE spool ADD COLUMN last_told_at TEXT",
    "ALTER TABLE spool ADD COLUMN tell_after TEXT",
    "ALTER TABLE spool ADD COLUMN trouble_since TEXT",
    "ALTER TABLE spool ADD COLUMN told_age REAL",
)
