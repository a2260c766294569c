"""The database knows where its spool lay."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = ("ALTER TABLE spool ADD COLUMN directory TEXT",)
