"""Which waiting file flood-notify has told of."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = ("ALTER TABLE spool ADD COLUMN told_oldest TEXT",)
