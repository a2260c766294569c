"""On which device the records found their files."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = ("ALTER TABLE spool ADD COLUMN device INTEGER",)
