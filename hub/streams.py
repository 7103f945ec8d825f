"""Rows of a data set on the hub as a stream: the one place that reads data sets with `datasets`.

Its files are read a little at a time, and nothing of them is stored on disk. A busy hub and a
connection that breaks cost a pause: the library reads on where it was.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub import connection
from hub.cache import cache_root
from studies.sources import HubSamples

ROWS_AT_ONCE = 64  # of a Parquet file: a row can be an entire book
FILES_AT_ONCE = 4  # of a shuffled stream
MAX_SHOWN = 500  # characters of an error of the library

Row = dict[str, Any]
END: Row = {}


def stream_rows(source: HubSamples, commit: str) -> Iterator[Row]:
    """Rows of a data set at a commit, in its order; with a seed, of its files in a random order.

    Parameters
    ----------
    source
        Which data set, subset, folder and split.
    commit
        What its revision was resolved to.

    Raises
    ------
    ValueError
        Offline; when the hub refuses or stays out of reach; when there is no such subset, folder
        or split; when a file cannot be read.
    """
    _check_place(source)
    # The library reports a hub that is away or busy as a data set that does not exist.
    connection.dataset_commit(source.repository, commit)
    rows: Iterator[Row] | None = None
    while True:
        with connection.patient(source.repository, commit, "dataset"):
            try:
                rows = rows or _open(source, commit)
                row = next(rows, END)
            except Exception as error:
                raise _cause(error, source, commit) from None  # may hold signed addresses
        if row is END:
            return
        yield row


def _check_place(source: HubSamples) -> None:
    from datasets import config

    if connection.offline() or config.HF_HUB_OFFLINE:
        raise ValueError(
            f"offline (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE), and {source.repository} is read "
            "from the hub; run once with a network: its samples are then cached and used offline"
        )
    if Path(source.repository).is_dir():
        raise ValueError(
            f"{source.repository} is a data set on the hub and also a folder here, which the "
            "library would read in its place; run in another working directory"
        )


def _open(source: HubSamples, commit: str) -> Iterator[Row]:
    from datasets import config, load_dataset_builder

    config.HF_UPDATE_DOWNLOAD_COUNTS = False  # a request to another host, not worth patience
    builder = load_dataset_builder(
        source.repository,
        source.subset,
        data_dir=source.data_dir,
        revision=commit,
        cache_dir=str(cache_root() / "streams"),
    )
    if hasattr(builder.config, "batch_size"):  # of Parquet files, where a batch is a row group
        builder.config.batch_size = ROWS_AT_ONCE
    rows = builder.as_streaming_dataset(split=source.split)
    if source.seed is not None:  # the rows are shuffled by whoever chooses among them
        rows = rows.shuffle(source.seed, buffer_size=1, max_buffer_input_shards=FILES_AT_ONCE)
    return iter(rows)


def _cause(error: Exception, source: HubSamples, commit: str) -> Exception:
    """The hub's answer that an error of the library comes from, or the error in plain words."""
    from datasets.exceptions import DatasetNotFoundError

    link: BaseException | None = error
    while link is not None:
        answer = getattr(link, "response", None)
        busy = answer is not None and answer.status_code in connection.BUSY
        if busy or isinstance(link, (connection.HubError, *connection.PASSING)):
            assert isinstance(link, Exception)
            return link
        link = link.__cause__ or link.__context__
    why = " ".join(str(error).split())[:MAX_SHOWN]
    if isinstance(error, DatasetNotFoundError):  # it exists, as was found out before
        why += " Accept the terms on its page, and set HF_TOKEN to a token of that account"
    return ValueError(f"{source.repository} at commit {commit} cannot be read: {why}")
