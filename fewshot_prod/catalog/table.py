"""Any table of products: CSV, TSV or Parquet with their usual columns, or a folder of pictures per category."""

from __future__ import annotations

import difflib
import html
import re
import unicodedata
from collections.abc import Collection
from functools import partial
from pathlib import Path

from fewshot_prod.catalog.catalog import COLUMNS, HELD_OUT, Catalog, CatalogError
from fewshot_prod.catalog.csv_rows import read_csv
from fewshot_prod.catalog.folder_tree import read_folder_tree
from fewshot_prod.catalog.parquet_rows import read_parquet
from fewshot_prod.catalog.rows import Row, build_catalog

# Usual names of each column, the more specific first; compared without case, blanks and punctuation.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "image": (
        *("image path", "image file", "image filename", "image name", "image", "img path", "img", "picture", "photo"),
        *("file path", "filename", "file", "path", "图片路径", "图片", "图像", "主图", "图片文件"),
    ),
    "title": (
        *("title", "product title", "product display name", "product name", "item name", "display name", "name"),
        *("product", "商品标题", "标题", "商品名称", "产品名称", "商品名", "品名", "名称"),
    ),
    "category": (
        *("category", "category name", "product category", "article type", "product type", "class", "class name"),
        *("label", "target", "类目", "商品类目", "类别", "品类", "分类", "标签"),
    ),
    "product_id": ("product id", "item id", "id", "sku", "asin", "商品编号", "产品编号", "商品id", "编号", "货号"),
    "parent": ("parent", "parent category", "super category", "coarse", "父类目", "父类", "一级类目", "大类"),
    "group": ("group", "group id", "spu", "分组", "组别"),
    "split": ("split", "subset", "partition", "fold", "数据划分", "划分"),
}
ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
TAG = re.compile(
    r"</?(?:a|b|big|br|center|div|em|font|h[1-6]|hr|i|img|li|ol|p|s|small|span|strong|sub|sup|table|td|th|tr|u|ul)\b[^<>]*>"
    r"|<!--.*?-->",
    re.IGNORECASE,
)
MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none"})
TABLES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".pq")


def load_table(
    root: Path,
    *,
    strict: bool = False,
    image_column: str | None = None,
    title_column: str | None = None,
    category_column: str | None = None,
    id_column: str | None = None,
    parent_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    optional: Collection[str] = (),
    labelled: bool = True,
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> Catalog:
    """Read a table, or the folder that holds one, or a folder of pictures per category.

    Image paths are relative to the table's folder, or absolute. A row that names an image which cannot be used is left
    out even if it has a title, unless it is without a label, to be categorised; a row that names none is kept for its
    title. Tags of HTML are taken out of titles and categories, and entities read. ``NA``, ``n/a``, ``null``, ``none``
    and ``nan`` mean missing, except as a category or an id. A row without an id gets ``line-17``. In a folder tree the
    category is the folder that a picture lies in, the parent the folder above, and folders train, val and test at the
    top become the column ``split``.

    Args:
        root: the file, a folder with exactly one table in it, or a folder tree.
        strict: raise at the first bad row instead of leaving bad rows out.
        image_column: and the other ``*_column``: the column's name, where it is not one of ``USUAL_NAMES``;
            "" where the table has none.
        optional: keys of ``USUAL_NAMES`` whose columns need not be there although they are named.
        labelled: False accepts rows without a category; it is then the empty string, and no category column is
            looked for.
        delimiter: of a text table, where it is not the one its header suggests.
        encoding: of a text table.

    Raises:
        CatalogError: if nothing is there, a named column is not, no row is usable, or ``strict`` and a row is bad.
    """
    table = _table_in(root)
    if table is None:
        return build_catalog("table", root, read_folder_tree(root), strict=strict, labelled=labelled)
    named = {
        "image": image_column,
        "title": title_column,
        "category": category_column,
        "product_id": id_column,
        "parent": parent_column,
        "group": group_column,
        "split": split_column,
    }
    if not labelled:
        named["category"] = ""
    if table.suffix.lower() in (".parquet", ".pq"):
        find = partial(_find_columns, table, named=named, optional=optional)
        header, records, place = *read_parquet(table, lambda header: find(header).values()), "row"
    else:
        header, records, place = *read_csv(table, delimiter=delimiter, encoding=encoding), "line"
    columns = _find_columns(table, header, named, optional)
    if "category" not in columns and labelled:
        raise CatalogError(
            f"{table}: no column looks like a category; name it (--columns.category; in Python category_column), or, "
            f"where the header is cut wrongly, the delimiter (--columns.delimiter; delimiter); it has {header}"
        )
    if not {"image", "title"} & set(columns):
        raise CatalogError(
            f"{table}: no column looks like an image path or a title; name one (--columns.image, --columns.title; in "
            f"Python image_column, title_column); it has {header}"
        )
    rows = [_row(table, place, columns, header, *record) for record in records]
    return build_catalog("table", table.parent, rows, strict=strict, labelled=labelled, source=table)


def _table_in(root: Path) -> Path | None:
    if root.is_file():
        if root.suffix.lower() not in TABLES:
            raise CatalogError(f"{root}: cannot read {root.suffix or 'this kind of file'}; save it as CSV or Parquet")
        return root
    if not root.is_dir():
        raise CatalogError(
            f"no table at {root}: give a .csv, .tsv or .parquet file with columns for image path, title and category, "
            "or a folder with one folder of pictures per category"
        )
    shown = (path for path in root.iterdir() if not path.name.startswith("."))  # macOS puts ._my.csv beside my.csv
    tables = sorted(path for path in shown if path.suffix.lower() in TABLES[:3] + TABLES[4:])
    if len(tables) > 1:
        raise CatalogError(f"{root} holds several tables, {[path.name for path in tables]}: give one of them as root")
    return tables[0] if tables else None


def _find_columns(
    table: Path, header: list[str], named: dict[str, str | None], optional: Collection[str]
) -> dict[str, str]:
    """Role -> column of the header: as named by the user, else the first usual name that is there."""
    columns: dict[str, str] = {}
    plain = {_plain(name): name for name in reversed(header)}
    for role, name in named.items():
        if name:
            if name not in header and _plain(name) not in plain:
                if role in optional:
                    continue
                close = difflib.get_close_matches(name, header, 1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise CatalogError(f"{table}: column unknown: {name!r}{hint}; it has {header}")
            columns[role] = name if name in header else plain[_plain(name)]
    for role, usual in USUAL_NAMES.items():
        free = (plain[_plain(n)] for n in usual if _plain(n) in plain and plain[_plain(n)] not in columns.values())
        if role not in columns and named[role] != "" and (found := next(free, None)) is not None:
            columns[role] = found
    return columns


def _plain(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def _row(
    table: Path,
    place: str,
    columns: dict[str, str],
    header: list[str],
    number: int,
    fields: list[str],
    reason: str | None,
) -> Row:
    row = Row(f"{table.name}:{number}", reason=reason)
    if reason:
        return row
    cells = dict(zip(header, (field.strip() for field in fields), strict=True))
    for role, column in columns.items():
        value = _without_markup(cells[column]) if role in ("title", "category", "parent") else cells[column]
        if role in ("category", "parent"):
            value = " ".join(unicodedata.normalize("NFC", value).split())
        elif value != cells[column]:
            row.note = "markup taken out of the title"
        if role in ("category", "product_id") or value.casefold() not in MISSING:
            setattr(row, role, value or None)
    if row.category and row.category.casefold() in MISSING:
        row.note = f"the category {row.category!r} looks like a missing value: if it is one, leave the cell empty"
    row.product_id = row.product_id or f"{place}-{number}"
    if row.image:
        row.image = _image_path(table.parent, row.image)
    broken = [role for role in ("title", "category") if role in columns and "\n" in cells[columns[role]]]
    if broken and place == "line":
        row.note = f"line break in the {broken[0]}: if it is not meant, close the quote that is opened in this row"
    for name in (name for name in header if name not in columns.values()):
        kept_as = f"{name}_in_table" if name in (*COLUMNS, "pixel_digest", HELD_OUT) else name
        row.extra[kept_as] = None if cells[name].casefold() in MISSING else cells[name]
    return row


def _without_markup(text: str) -> str:
    plain = TAG.sub(" ", ENTITY.sub(lambda entity: html.unescape(entity[0]), text))
    return text if plain == text else " ".join(plain.split())


def _image_path(root: Path, cell: str) -> str:
    try:
        if "\\" in cell and not (root / cell).exists():  # written on Windows
            cell = cell.replace("\\", "/")
    except OSError:  # too long for a path, which is told where it is opened
        pass
    return cell
