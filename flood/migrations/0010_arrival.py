"""Versions of a key are in the order in which they arrived, whenever their records were made."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


STATEMENTS = ("ALTER TABLE file_records ADD COLUMN arrival INTEGER",)
