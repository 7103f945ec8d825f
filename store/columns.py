"""What a table of the warehouse is made of, and the columns that mean the same in all of them."""

from dataclasses import dataclass

import pyarrow as pa

TEXT, WHOLE, REAL, TRUTH = pa.string(), pa.int64(), pa.float64(), pa.bool_()


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, what it holds (unit, range) and whether it may be null."""

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table of the warehouse: its name, what a row is, and its columns in order."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The table as an Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)


def text(name: str, description: str, nullable: bool = False) -> Column:
    """A column of text."""
    return Column(name, TEXT, description, nullable)


def whole(name: str, description: str, nullable: bool = False) -> Column:
    """A column of whole numbers."""
    return Column(name, WHOLE, description, nullable)


def real(name: str, description: str, nullable: bool = False) -> Column:
    """A column of real numbers."""
    return Column(name, REAL, description, nullable)


def truth(name: str, description: str, nullable: bool = False) -> Column:
    """A column of true or false."""
    return Column(name, TRUTH, description, nullable)


# Columns that mean the same wherever they stand.
SERIES = text("series", "Name of the series of checkpoints.")
STEP = whole("step", "Optimizer steps taken when the checkpoint was written, 0 or more.")
DOMAIN = text("domain", "Name of the domain.")
SAMPLE_ID = whole("sample_id", "Number of the sample, unique within series and domain.")
SPLIT = text("split", "'probe' (trained on) or 'validation' (held out, according to the study).")
BENCHMARK = text("benchmark", "Name of the lm-eval task.")
METRIC = text("metric", "Per-document 0/1 metric read as accuracy, such as acc.")
DOCUMENT_ID = whole("document_id", "Number of the document within the benchmark.")
MONITOR = text("monitor", "Name of the monitor (table monitors).")
FINGERPRINT = text("fingerprint", "Fingerprint of the artifact (hex).")
