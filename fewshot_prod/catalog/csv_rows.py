"""CSV as people write it: every record with the line it starts at, and broken ones said to be broken."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from fewshot_prod.catalog.catalog import CatalogError

Record = tuple[int, list[str], str | None]  # line (from 1), fields, reason why it is broken
ENCODING_REMEDY = (
    "save it as UTF-8, or name its encoding, such as gbk or utf-16 (--columns.encoding; in Python encoding)"
)

UNCLOSED = "broken line: a quote is opened and not closed"
QUOTES_INSIDE = (
    "broken line: a field begins with a quote and goes on behind the closing one: double the quotes inside, as in "
    '"""Best"" table"'
)


def read_csv(path: Path, *, delimiter: str | None = None, encoding: str = "utf-8") -> tuple[list[str], list[Record]]:
    """Read a delimited file with a header line.

    A byte order mark, any line ends, quoted line breaks and blank lines are fine. A record with another number of
    fields than the header, with a quote out of place, or with bytes that are not ``encoding`` is broken; reading
    goes on with the next *line*, so that a quote which is never closed costs one row and not the rest of the file. One
    that a later line's quote closes costs the lines up to there, which are named, unless their fields happen to be as
    many as the header's.

    Args:
        delimiter: default the one that a first line ``sep=;`` names, a tab for .tsv and .tab, else whichever of
            ``, ; tab |`` cuts the header into most fields.
        encoding: of the text, as Python names it; what is UTF-8 throughout is read as that all the same, as one of
            several tables may be.

    Returns:
        the header's fields, stripped (one without a name becomes ``column 3``), and the records.

    Raises:
        CatalogError: if the file or its header cannot be read, or most of it is in another encoding.
    """
    data = _read_bytes(path)
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")) and b"\0" not in data  # none of these
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8") or wide or _is_utf8(data):
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding, errors="surrogateescape")
    except (LookupError, UnicodeError) as error:
        raise CatalogError(f"{path}: cannot be read as {encoding}: {error}") from None
    lines = list(io.StringIO(text, newline=""))
    if told := re.fullmatch(r'"?sep=(.)"?\s*', lines[0] if lines else ""):  # as Excel reads and some exports write it
        delimiter, lines[0] = delimiter or told[1], "\n"
    delimiter = delimiter or ("\t" if path.suffix.lower() in (".tsv", ".tab") else _guess_delimiter(lines))
    delimiter = "\t" if delimiter == "\\t" else delimiter  # as it is typed on a command line
    if len(delimiter) != 1:
        raise CatalogError(f"{path}: the delimiter is {delimiter!r}; it must be one character, or \\t for a tab")
    records = _records(lines, delimiter)
    line, header, reason = next(records, (1, [], "the file is empty"))
    if reason or any(_undecodable(field) or "\0" in field for field in header):  # zero bytes: UTF-16 without its mark
        reason = reason or f"not {_shown(encoding)}: {ENCODING_REMEDY}"
        raise CatalogError(f"{path}:{line}: the header cannot be read: {reason}")
    header = [field.strip() or f"column {i}" for i, field in enumerate(header, start=1)]
    if len(set(header)) < len(header):
        repeated = sorted({field for field in header if header.count(field) > 1})
        raise CatalogError(f"{path}:{line}: the header names the columns {repeated} more than once; rename them")
    found = []
    for n, fields, why in records:
        found.append((n, fields, why or _fault(fields, len(header), encoding)))
    undecodable = sum(any(map(_undecodable, fields)) for _, fields, _ in found)
    if len(found) >= 10 and undecodable > len(found) / 2:
        raise CatalogError(f"{path}: {undecodable} of {len(found)} rows are not {_shown(encoding)}: {ENCODING_REMEDY}")
    return header, found


def _is_utf8(data: bytes) -> bool:
    """Whether these bytes can hardly be anything but UTF-8; the zero bytes of UTF-16 would pass as UTF-8 too."""
    try:
        return b"\0" not in data and not data.decode().isascii()
    except UnicodeDecodeError:
        return False


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror or error}") from None


def _records(lines: list[str], delimiter: str) -> Iterator[Record]:
    at, expected = 0, None  # fields of the header
    while at < len(lines):
        reader = csv.reader(_following(lines, at), delimiter=delimiter, strict=True)
        try:
            fields, reason, used = next(reader), None, reader.line_num
        except csv.Error as error:
            fields, used = [], 1
            unclosed = "unexpected end" in str(error) or "larger than" in str(error)
            reason = UNCLOSED if unclosed else QUOTES_INSIDE
        if expected is not None and not any(fields[expected:]):  # delimiters behind the last field
            fields = fields[:expected]
        if used > 1 and expected is not None and len(fields) != expected:
            reason = (
                f"broken line: lines {at + 1} to {at + used}, by their quotes one row, have {len(fields)} fields where "
                f"the header has {expected}: close the quote in the line where it belongs"
            )
        if fields or reason:
            yield at + 1, fields, reason
            expected = expected or len(fields)
        at += used


def _following(lines: list[str], start: int) -> Iterator[str]:
    return (lines[i] for i in range(start, len(lines)))


def _fault(fields: list[str], expected: int, encoding: str) -> str | None:
    undecodable = next((field for field in fields if _undecodable(field)), None)
    if undecodable is not None:
        remedy = ENCODING_REMEDY if encoding == "utf-8-sig" else "name another encoding, or none, which is UTF-8"
        return f"text not {_shown(encoding)}: {ascii(undecodable)[:80]}; {remedy}"
    if len(fields) != expected:
        remedy = "quote fields that contain the delimiter" if len(fields) > expected else "fields are missing"
        return f"broken line: {len(fields)} fields where the header has {expected}; {remedy}"
    return None


def _shown(encoding: str) -> str:
    return encoding.upper().removesuffix("-SIG")


def _undecodable(field: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in field)


def _guess_delimiter(lines: list[str]) -> str:
    header = next((line for line in lines if line.strip()), "")

    def n_fields(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter), []))
        except csv.Error:  # longer than a field may be, so not cut by this one
            return 0

    return max(",;\t|", key=n_fields)
