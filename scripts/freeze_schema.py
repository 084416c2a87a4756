"""Write the first migration from the models: a frozen copy, by pwmigrate's idiom.

Run once while a schema is still unreleased; after that, write the next migration by
hand. Usage: python scripts/freeze_schema.py
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TAIL = '''

def up(migrator, db):
    """Create every table and index."""
    with db.bind_ctx(ALL):
        db.create_tables(ALL)
    store = "sqlite" if isinstance(db, SqliteDatabase) else "postgres"
    for statement in (*PARTIAL_INDEXES, *SEARCH[store]):
        db.execute_sql(statement)
'''


def main() -> None:
    """Copy the models' source under a migration's head and tail."""
    source = (ROOT / "broker/models.py").read_text()
    body = source.split('"""', 2)[2].lstrip()
    body = body.replace("    Model,\n", "    Model,\n    SqliteDatabase,\n", 1)
    head = (
        '"""The first schema: a frozen copy of broker/models.py. Never edit it."""\n\n'
    )
    (ROOT / "broker/migrations/0001_initial.py").write_text(head + body + TAIL)


if __name__ == "__main__":
    main()
