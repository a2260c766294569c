"""When somebody last asked that nothing waits."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = ("ALTER TABLE spool ADD COLUMN hastened_at TEXT",)
