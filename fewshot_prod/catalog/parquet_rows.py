"""Rows of a Parquet file as text, in the form in which ``csv_rows`` gives those of a CSV file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from fewshot_prod.catalog.catalog import CatalogError
from fewshot_prod.catalog.csv_rows import Record


def read_parquet(path: Path, find: Callable[[list[str]], Collection[str]]) -> tuple[list[str], list[Record]]:
    """Read a Parquet file; rows are numbered from 1.

    Numbers and dates become text, nulls the empty string. A row with bytes that are not UTF-8, or with a list or
    structure, is broken where text is needed; elsewhere such a cell becomes the empty string.

    Args:
        find: from the columns' names to those of which text is needed.

    Returns:
        the columns' names and the records.

    Raises:
        CatalogError: if the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        header = [name.strip() for name in table.column_names]
        columns = [_plain(column).to_pylist() for column in table.columns]
    except (OSError, pa.ArrowException, UnicodeDecodeError, ValueError) as error:
        raise CatalogError(f"{path}: cannot be read as Parquet: {error}") from None
    if len(set(header)) < len(header):
        raise CatalogError(f"{path}: a column's name is there more than once: {sorted(header)}; rename them")
    needed = find(header)
    rows = enumerate(zip(*columns, strict=True), start=1)
    return header, [_record(number, header, cells, needed) for number, cells in rows]


def _plain(column: Any) -> Any:
    """Text columns as bytes: Parquet does not check that text is UTF-8, and one bad cell must cost one row.

    Dates as text, for Python has none behind the year 9999.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.string())
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column.cast(pa.large_binary()) if is_text else column


def _record(number: int, header: list[str], cells: tuple, needed: Collection[str]) -> Record:
    fields = []
    for name, cell in zip(header, cells, strict=True):
        if isinstance(cell, bytes):
            try:
                cell = cell.decode("utf-8")
            except UnicodeDecodeError:
                if name in needed:
                    return number, [], f"text not UTF-8: column {name!r} has {ascii(cell)[:60]}"
                cell = None
        if isinstance(cell, (dict, list)):
            if name in needed:
                return number, [], f"cell not text: column {name!r} has a {type(cell).__name__}; store text or a number"
            cell = None
        missing = cell is None or cell != cell  # NaN differs from itself
        whole = isinstance(cell, float) and cell.is_integer()  # ids become floats where one is missing
        fields.append("" if missing else str(int(cell)) if whole else str(cell))
    return number, fields, None
