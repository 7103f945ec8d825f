"""Which tables a report has; each is one SQL query whose rows are written as they stand."""

from reports.tables import TableQuestion

TABLES: tuple[TableQuestion, ...] = ()
