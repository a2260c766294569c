"""Of one key with a long history, the versions that matter are found among all others."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = (
    """
    CREATE INDEX file_records_arrived ON file_records (profile, bucket, filepath, arrival)
        WHERE arrival IS NOT NULL
    """,
    """
    CREATE INDEX file_records_kept ON file_records (profile, bucket, filepath)
        WHERE current_state = 'failed' AND left_at IS NULL
    """,
)
