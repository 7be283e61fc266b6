"""The tables of a file: steps that add them, and which of them a file has seen.

sqlite-utils takes the steps and keeps their record. It weighs 4 MB with what it imports, so it is
imported only where a file lacks a step: with a new file, or with the first start of a release that
adds one. prepare.py has that done by a process that ends.
"""

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite_utils

type Tables = sqlite_utils.Database  # evaluated only by the type checker
type Step = Callable[[Tables], None]


class Schema:
    """A named set of steps, each taken once in a file's life. Only ever added to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._steps: dict[str, Step] = {}

    def step(self, step: Step) -> Step:
        """Decorator: a step called like its function."""
        self.add(step.__name__, step)
        return step

    def add(self, name: str, step: Step) -> None:
        self._steps[name] = step

    def is_in(self, db: sqlite3.Connection) -> bool:
        """Whether the file has seen every step; what a newer release added does not matter."""
        known = "SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'"
        if db.execute(known).fetchone() is None:
            return False
        taken = "SELECT name FROM _sqlite_migrations WHERE migration_set = ?"
        return self._steps.keys() <= {name for (name,) in db.execute(taken, [self.name])}

    def bring_up_to_date(self, db: sqlite3.Connection) -> None:
        """Take the steps that the file has not seen, each in a transaction of its own."""
        if self.is_in(db):
            return
        import sqlite_utils
        from sqlite_utils.migrations import Migrations

        migrations = Migrations(self.name)
        for name, step in self._steps.items():
            migrations(name=name)(step)
        migrations.apply(sqlite_utils.Database(db, execute_plugins=False))
