"""Large files that wait are found among a million small ones."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = (
    # 5 MiB is the least that counts as large.
    """
    CREATE INDEX file_records_large ON file_records (next_attempt_at, id, size)
        WHERE current_state = 'processing' AND owner IS NULL AND size >= 5242880
    """,
)
