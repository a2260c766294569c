"""How far the look for empty directories has come."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = ("ALTER TABLE spool ADD COLUMN prune_mark TEXT",)
