"""Which bodies ran in a data root, by its own records and by what the process reports."""

import sqlite3
from collections import Counter
from contextlib import contextmanager

from tasks.listeners import Kind, listening


def attempts(root):
    """Rows of the table of attempts, oldest first."""
    file = root / "state.db"
    if not file.is_file():
        return []
    connection = sqlite3.connect(file, timeout=60)
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            return []  # it is just being created
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM attempts ORDER BY id")]
    finally:
        connection.close()


def is_computed(attempt):
    return attempt["ended_at"] is not None and attempt["error"] is None


@contextmanager
def counted_bodies():
    """How often each step's body ran to its end meanwhile."""
    counts = Counter()

    def listen(event):
        if event.kind is Kind.computed:
            counts[event.step_name] += 1

    with listening(listen):
        yield counts
