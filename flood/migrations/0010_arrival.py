"""Neither copies that take long nor a clock that is wrong have flood take old for new."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = (
    "ALTER TABLE file_records ADD COLUMN arrival INTEGER",
    "ALTER TABLE spool ADD COLUMN clock TEXT",
)
