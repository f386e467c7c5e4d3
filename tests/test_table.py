"""The source "table": what users bring, mistakes included."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fewshot_prod.arguments import Columns
from fewshot_prod.catalog import CatalogError, load_catalog, summary
from fewshot_prod.catalog.summary import problems_table


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_PROD_CACHE", str(tmp_path / "cache"))


def save_picture(path: Path, seed: int = 0, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_bomb(path: Path, side: int = 33_000) -> None:
    """A PNG of a few hundred bytes whose header promises side x side RGB pixels (3 GB)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


PLANTED = {  # line -> (the line, kind of problem or None)
    2: (b"a1,img/0.png,Red cup,cup,x", None),
    3: (b'a2,img/1.png,"Blue, big', None),  # a quoted comma and a quoted line break: lines 3 and 4 are one row
    4: (b'cup",cup,x', None),
    5: (b"a3,img/none.png,Green cup,cup,x", "image missing"),
    6: (b"a4,img/half.jpg,Half a cup,cup,x", "image truncated"),
    7: (b"a5,img/bomb.png,Huge cup,cup,x", "image too large"),
    8: (b"a6,,,cup,x", "nothing to see"),
    9: (b"a1,img/2.png,Second a1,cup,x", "id repeated"),
    10: (b"a7,img/2.png,Cup, with comma,cup,x", "broken line"),
    11: (b"a8,img/2.png,cup", "broken line"),
    12: (b"a9,img/2.png,Tasse \xe9l\xe9gante,cup,x", "text not UTF-8"),
    13: (b"b1,img/2.png,No label,,x", "category empty"),
    14: (b"", None),  # blank lines are no rows
    15: (b"b2,https://shop.example/2.png,Cup by link,cup,x", "image is a URL"),
    16: (b'b3,"img/2.png,Quote never closed,cup,x', "broken line"),
    17: (b"b4,img,A folder,cup,x", "image unreadable"),
    18: (b"b5,img/text.png,Not a picture,cup,x", "image unreadable"),
    19: (b"b6,img\\2.png,NA,plate,x", None),  # a Windows path; NA is a missing title
    20: (b"b7,,Title only,plate,x", None),
    21: ("b8,img/3.png,红色 杯子,杯子,x".encode(), None),
    22: (b"b9,img/\x00.png,Zero byte,cup,x", "image unreadable"),
    23: (b"c1,img/empty.png,Empty file,cup,x", "image unreadable"),
}


@pytest.fixture
def planted(tmp_path) -> Path:
    for i in range(4):
        save_picture(tmp_path / f"img/{i}.png", seed=i)
    whole = save_picture(tmp_path / "img/whole.jpg", size=(64, 64)).read_bytes()
    (tmp_path / "img/half.jpg").write_bytes(whole[: len(whole) // 2])
    save_bomb(tmp_path / "img/bomb.png")
    (tmp_path / "img/text.png").write_text("not a picture")
    (tmp_path / "img/empty.png").write_bytes(b"")
    lines = [b"id,image,title,category,colour", *(line for line, _ in PLANTED.values())]
    path = tmp_path / "shop.csv"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n")
    return path


def test_every_planted_mistake_is_reported_with_line_and_reason(planted):
    catalog = load_catalog("table", planted)
    found = {int(p.row.removeprefix("shop.csv:")): p.reason.split(":")[0] for p in catalog.problems}
    assert found == {line: kind for line, (_, kind) in PLANTED.items() if kind}
    assert catalog.frame["product_id"].tolist() == ["a1", "a2", "b6", "b7", "b8"]
    assert catalog.rows_read == len(catalog) + len(catalog.problems)
    rows = catalog.frame.set_index("product_id")
    assert rows.loc["a2", "title"] == "Blue, big\r\ncup"
    assert rows.loc["b6", "title"] is None and rows.loc["b6", "image"] == "img/2.png"
    assert rows.loc["b7", "image"] is None
    assert rows.loc["b8", "category"] == "杯子"
    assert rows["colour"].tolist() == ["x"] * 5


def test_problem_messages_name_value_and_remedy(planted):
    reasons = {p.row: p.reason for p in load_catalog("table", planted).problems}
    assert reasons["shop.csv:5"] == "image missing: img/none.png"
    assert reasons["shop.csv:6"].startswith("image truncated: img/half.jpg: ")
    assert reasons["shop.csv:13"] == "category empty: the row has no label"
    large = "image too large: img/bomb.png has 1,089,000,000 pixels, 3.0 GB decoded; the limit is 89,478,485 pixels: "
    assert reasons["shop.csv:7"] == large + "scale it down"
    assert reasons["shop.csv:9"] == "id repeated: 'a1' stands at shop.csv:2 already"
    assert "6 fields where the header has 5; quote fields" in reasons["shop.csv:10"]
    assert reasons["shop.csv:16"] == "broken line: a quote is opened and not closed"


def test_summary_counts_the_problems_by_kind(planted):
    text = summary(load_catalog("table", planted))
    assert "left out: 15 of 20 rows" in text
    assert "3 x broken line" in text and "4 x image unreadable" in text
    assert "shop.csv:5: image missing: img/none.png" in text
    assert "... and 1 more" in text
    whole = summary(load_catalog("table", planted), examples=None)
    assert "more" not in whole and all(problem.row in whole for problem in load_catalog("table", planted).problems)


def test_summary_names_the_columns_that_were_not_taken_for_images_or_titles(tmp_path):
    (tmp_path / "shop.csv").write_text("id,bild,title,category\n1,img/1.png,red cup,cups\n")
    text = summary(load_catalog("table", tmp_path / "shop.csv"))
    assert "no image column found; not used: bild (--columns.image names one)" in text and "no title" not in text


def test_summary_tells_how_many_titles_name_their_category(tmp_path):
    (tmp_path / "shop.csv").write_text("title,category\nRed cups,Cups\nBlue cup,Cups\nGreen bowl,Cups\nSaucer,Cups\n")
    text = summary(load_catalog("table", tmp_path / "shop.csv"))
    assert "name their category: 25 % letter by letter, 50 % as the masking counts (singular, plural" in text
    assert "name their" not in summary(load_catalog("table", tmp_path / "shop.csv", labelled=False))
    untitled = load_catalog("synthetic", products_per_category=1, image_size=16)
    untitled.frame["title"] = None
    assert "name their" not in summary(untitled)


def test_reading_twice_gives_the_same(planted):
    first, second = load_catalog("table", planted), load_catalog("table", planted)
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.problems == second.problems and first.fingerprint == second.fingerprint


def test_strict_stops_at_the_first_bad_row(planted):
    with pytest.raises(CatalogError, match=r"^shop\.csv:5: image missing: img/none\.png \(14 more bad rows"):
        load_catalog("table", planted, strict=True)


def test_a_replaced_picture_is_looked_at_again(planted):
    load_catalog("table", planted)
    save_picture(planted.parent / "img/none.png", seed=9)
    catalog = load_catalog("table", planted)
    assert "a3" in set(catalog.frame["product_id"])


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_line_ends_and_delimiters(tmp_path, newline, delimiter):
    lines = [["name", "class"], ["Red cup", "cup"], ["Lid"], ["Blue plate", "plate"]]
    path = tmp_path / "t.csv"
    path.write_text(newline.join(delimiter.join(line) for line in lines), newline="")
    catalog = load_catalog("table", path)
    assert catalog.titles == ["Red cup", "Blue plate"]
    assert [p.row for p in catalog.problems] == ["t.csv:3"]


def test_a_quote_left_open_costs_one_row_even_before_many(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"Cup {i},cup" for i in range(20_000)]
    rows[1] = '"Cup 1,cup'
    path.write_text("\n".join(["title,category", *rows]))
    catalog = load_catalog("table", path)
    assert len(catalog) == 19_999
    assert [p.row for p in catalog.problems] == ["t.csv:3"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Image Path,Product_Name,ARTICLE TYPE,SKU", ("1.png", "Cup", "cup", "7")),
        ("filename,displayName,Label,Item-ID", ("1.png", "Cup", "cup", "7")),
        ("图片路径,商品标题,类目,商品编号", ("1.png", "Cup", "cup", "7")),
    ],
)
def test_columns_are_found_by_their_usual_names(tmp_path, header, expected):
    save_picture(tmp_path / "1.png")
    (tmp_path / "t.csv").write_text(f"{header}\n1.png,Cup,cup,7\n", encoding="utf-8")
    row = load_catalog("table", tmp_path).frame.iloc[0]
    assert (row["image"], row["title"], row["category"], row["product_id"]) == expected


def test_columns_named_by_the_user(tmp_path):
    (tmp_path / "t.tsv").write_text("title\tslogan\tkind\tfamily\tpart\timage\nA\tBest cup\tcup\tware\ttest\tblue\n")
    options = {"title_column": "slogan", "category_column": "Kind", "parent_column": "family", "split_column": "part"}
    with pytest.raises(CatalogError, match=r"has no usable row.*t\.tsv:2: image missing: blue"):
        load_catalog("table", tmp_path / "t.tsv", **options)
    catalog = load_catalog("table", tmp_path / "t.tsv", **options, image_column="")
    row = catalog.frame.iloc[0]
    assert (row["title"], row["category"], row["parent"], row["split"]) == ("Best cup", "cup", "ware", "test")
    assert row["title_in_table"] == "A" and row["image_in_table"] == "blue" and row["image"] is None
    assert row["product_id"] == "line-2"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"title,category\nA,cup\n", {"title_column": "titel"}, r"column unknown: 'titel' \(did you mean 'title'\?\)"),
        (
            b"title,colour\nA,red\n",
            {},
            r"no column looks like a category; name it \(--columns.category; in Python category_column\)",
        ),
        (b"colour,category\nred,cup\n", {}, r"no column looks like an image path or a title"),
        (b"title,category\n", {}, r"has no usable row$"),
        (b"", {}, r"the header cannot be read: the file is empty"),
        (b"title,category,title\nA,cup,B\n", {}, r"names the columns \['title'\] more than once"),
        (
            "标题,类目\n杯,杯子\n".encode("gbk"),
            {},
            r"not UTF-8: save it as UTF-8, or name its encoding.*--columns\.encoding",
        ),
        (
            "title,category\nA,cup\n".encode("utf-16"),
            {},
            r"not UTF-8: save it as UTF-8, or name its encoding.*--columns\.encoding",
        ),
        ("title,category\nA,cup\n".encode("utf-16-le"), {}, r"not UTF-8.*utf-16"),  # without its mark
        (
            "title,category\n杯,杯子\n".encode("gbk"),
            {},
            r"no usable row.*t\.csv:2: text not UTF-8.*--columns\.encoding",
        ),
        (b"title,category\nA,cup\n", {"encoding": "utf-99"}, r"cannot be read as utf-99"),
        (b"title,category\nA,cup\n", {"delimiter": ",,"}, r"the delimiter is ',,'; it must be one character"),
        (b"x" * 200_000, {}, r"the header cannot be read: broken line"),
        (b"title,category\nA,cup\n", {"colour_column": "x"}, r"no options \['colour_column'\]; it has \['image_col"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path, content, options, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=message):
        load_catalog("table", path, **options)


def test_named_columns_that_may_be_missing(tmp_path):
    (tmp_path / "t.csv").write_text("Titel,id\nRed cup,7\n")
    named = {"title_column": "Titel", "category_column": "Gruppe", "id_column": "Nr", "parent_column": "Sparte"}
    with pytest.raises(CatalogError, match="column unknown: 'Nr'"):  # Gruppe is not looked for
        load_catalog("table", tmp_path, labelled=False, **named)
    items = load_catalog("table", tmp_path, labelled=False, optional=("product_id", "parent"), **named)
    assert items.frame["product_id"].tolist() == ["7"] and items.titles == ["Red cup"]


def test_categories_all_of_whose_rows_were_left_out_are_named(tmp_path):
    (tmp_path / "t.csv").write_text("image,title,category\n,A,cup\nno.png,B,plate\nno.png,C,bowl\nno.png,D,cup\n")
    catalog = load_catalog("table", tmp_path)
    assert catalog.emptied == ("bowl", "plate")
    assert "  categories without a usable row: bowl, plate\n" in summary(catalog)
    fewer = load_catalog("table", tmp_path, image_column="").leave_out(np.array([True, True, False, False]), "why")
    assert fewer.emptied == ("plate",) and [p.reason for p in fewer.problems] == ["why", "why"]
    told = problems_table({"shop": catalog})
    assert told.values.tolist() == [["shop", f"t.csv:{i}", "yes", "image missing: no.png"] for i in (3, 4, 5)]


def test_columns_without_a_name_do_no_harm(tmp_path):
    (tmp_path / "t.csv").write_text(",title,category,,\n0,Red cup,cup,,\n1,Blue cup,cup,x,\n")
    catalog = load_catalog("table", tmp_path)
    assert catalog.titles == ["Red cup", "Blue cup"] and catalog.frame["column 4"].tolist() == [None, "x"]


def test_other_encodings(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("标题,类目\n红色杯子,杯子\n".encode("gb18030"))
    assert load_catalog("table", path, encoding="gb18030").titles == ["红色杯子"]
    path.write_text("标题,类目\n红色杯子,杯子\n", encoding="utf-8")  # one of several tables
    assert load_catalog("table", path, encoding="gb18030").titles == ["红色杯子"]
    path.write_text("title,category\nRed cup,cup\n", encoding="utf-16-le")
    assert load_catalog("table", path, encoding="utf-16-le").titles == ["Red cup"]
    path.write_bytes(b"title,category\n" + "红色杯子,杯子\n".encode("gb18030") * 6 + b"Red cup,cup\n" * 4)
    with pytest.raises(CatalogError, match=r"6 of 10 rows are not UTF-8: .* name its encoding, such as gbk"):
        load_catalog("table", path)


@pytest.mark.parametrize("title", ["A cup", "Cups"])
def test_an_ascii_table_beside_one_in_utf_16_is_read(tmp_path, title):
    (tmp_path / "t.csv").write_bytes(f"title,category\n{title},cup\n".encode())
    assert load_catalog("table", tmp_path, encoding="utf-16").titles == [title]


def test_delimiters_behind_the_last_field_cost_nothing(tmp_path):
    rows = 'Red cup,cup,,\n"Grey\ncup",cup,,\nBlue cup,cup\nGreen cup,cup,,x\n'
    (tmp_path / "t.csv").write_text(f"title,category\n{rows}")
    catalog = load_catalog("table", tmp_path)
    assert catalog.titles == ["Red cup", "Grey\ncup", "Blue cup"]
    assert "4 fields where the header has 2" in catalog.problems[0].reason


def test_a_category_that_looks_like_a_missing_value_is_pointed_at(tmp_path):
    (tmp_path / "t.csv").write_text("title,category\nRed cup,cup\nBlue cup,nan\n")
    catalog = load_catalog("table", tmp_path)
    assert catalog.categories == ("cup", "nan")
    (note,) = catalog.notes
    assert note.row == "t.csv:3" and "'nan' looks like a missing value" in note.reason


def test_lines_that_a_quote_joins_are_named(tmp_path):
    lines = ["id,title,category", '1,"Oak table,tables', "2,Vase,vases", '3,Pipe 5",pipes,x', "4,Cup,cups"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    catalog = load_catalog("table", tmp_path)
    assert catalog.titles == ["Cup"]
    (problem,) = catalog.problems
    assert problem.row == "t.csv:2" and "lines 2 to 4, by their quotes one row, have 4 fields" in problem.reason
    (tmp_path / "t.csv").write_text("\n".join([*lines[:3], '3,Pipe 5",pipes']))  # as many fields as there should be
    (note,) = load_catalog("table", tmp_path).notes
    assert note.row == "t.csv:2" and note.reason.startswith("line break in the title")
    (tmp_path / "t.csv").write_text('title,category\nOak table,"tables\nVase,vases\nGlass",\nCup,cups')
    (note,) = load_catalog("table", tmp_path).notes
    assert note.row == "t.csv:2" and note.reason.startswith("line break in the category")


def test_categories_that_are_written_alike_are_named(tmp_path):
    names = ["side tables", "Side Tables", "side  tables", "side tables", "vases"]
    (tmp_path / "t.csv").write_text("title,category\n" + "".join(f"A{i},{name}\n" for i, name in enumerate(names)))
    catalog = load_catalog("table", tmp_path)
    assert catalog.categories == ("Side Tables", "side tables", "vases")  # inner blanks do not count
    (note,) = catalog.notes
    assert note.row == "t.csv:3" and "another: 'Side Tables' (1 products), 'side tables'; they count as" in note.reason


def test_markup_is_taken_out_of_titles_and_categories(tmp_path):
    marked = '"<p class=""t""><b>Oak</b> table</p> &amp; bench&nbsp;&#x41;&lt;br&gt;",Tables &amp; Co'
    rows = [marked, "1 < B and B > C,cups", "R&D; <USB-C> x,cups"]
    (tmp_path / "t.csv").write_text("\n".join(["title,category", *rows]))
    catalog = load_catalog("table", tmp_path)
    assert catalog.titles == ["Oak table & bench A", "1 < B and B > C", "R&D; <USB-C> x"]
    assert catalog.categories == ("Tables & Co", "cups")
    assert [(note.row, note.reason) for note in catalog.notes] == [("t.csv:2", "markup taken out of the title")]


def test_how_a_table_is_cut_can_be_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\nid;title (brand, size, colour);category\n1;Oak, 4;cup\n2;;cup\n")
    catalog = load_catalog("table", path, title_column="title (brand, size, colour)")
    assert catalog.titles == ["Oak, 4"] and catalog.problems[0].row == "t.csv:4"
    path.write_text("id;title (brand, size, colour);category\n1;Oak, 4;cup\n")
    with pytest.raises(CatalogError, match=r"header is cut wrongly, the delimiter \(--columns.delimiter"):
        load_catalog("table", path)
    named = Columns(title="title (brand, size, colour)", delimiter=";").options()
    assert load_catalog("table", path, **named).titles == ["Oak, 4"]
    path.write_text('title,category\n"Best" Oak,cup\nVase,vase\n')
    assert "double the quotes inside" in load_catalog("table", path).problems[0].reason


def test_where_a_missing_picture_was_looked_for(tmp_path):
    (tmp_path / "img").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "img" / "1.PNG")
    table = tmp_path / "t.csv"
    table.write_text("image,category\nimg/1.png,cup\n/img/1.PNG,cup\nimg/2.png,cup\n")
    with pytest.raises(CatalogError, match=rf"no usable row.*img/1.png.*\(image paths count from {tmp_path}\)"):
        load_catalog("table", table)
    table.write_text(table.read_text() + "img/1.PNG,cup\n")
    first, second, third = (problem.reason for problem in load_catalog("table", table).problems)
    assert first == "image missing: img/1.png; there is 1.PNG, in other case"
    assert second == "image missing: /img/1.PNG; it is there without the first /"
    assert third == "image missing: img/2.png"
    (tmp_path / "img" / "2.PNG").write_bytes((tmp_path / "img" / "1.PNG").read_bytes())
    (tmp_path / "img" / "dead.png").symlink_to("nowhere")
    table.write_text(table.read_text() + f"img/dead.png,cup\n/img/{'杯' * 100}.png,cup\n")
    *_, third, dead, long = (problem.reason for problem in load_catalog("table", table).problems)
    assert third == "image missing: img/2.png; there is 2.PNG, in other case"
    assert dead == "image missing: img/dead.png" and "there is" not in long


def test_cells_that_mean_missing_are_missing_in_other_columns_too(tmp_path):
    (tmp_path / "t.csv").write_text("title,category,colour\nA,cup,red\nB,cup,\nC,cup,NA\n")
    assert load_catalog("table", tmp_path).frame["colour"].tolist() == ["red", None, None]


def test_cells_that_are_too_long_or_too_late(tmp_path):
    (tmp_path / "t.csv").write_text("image,title,category\n" + "img\\" + "x" * 5000 + ".png,A,cup\n,B,cup\n")
    (problem,) = load_catalog("table", tmp_path).problems
    assert problem.row == "t.csv:2" and problem.reason.startswith("image unreadable")
    late = pd.DataFrame({"title": ["A", "B"], "category": ["cup", "plate"]})
    late["when"] = np.array(["12345-01-01", "2020-01-01"], "datetime64[ms]")
    late.to_parquet(tmp_path / "late.parquet")
    assert load_catalog("table", tmp_path / "late.parquet").frame["when"].tolist()[1].startswith("2020-01-01")


def test_unlabelled_items(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("id,title\n1,Red cup\n2,\n3,Blue plate\n")
    catalog = load_catalog("table", path, labelled=False)
    assert catalog.frame["product_id"].tolist() == ["1", "3"]
    assert catalog.categories == ("",) and "2 products without categories" in summary(catalog)
    assert [(p.row, p.reason.split(":")[0]) for p in catalog.problems] == [("items.csv:3", "nothing to see")]


def test_an_item_whose_picture_cannot_be_used_keeps_its_title(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text(
        "image,title,category\ngone.png,Red cup,cup\ngone.png,,cup\n,Blue plate,plate\nhttps://s/x.png,Jug,jug\n"
    )
    items = load_catalog("table", path, labelled=False)
    assert items.titles == ["Red cup", "Blue plate", "Jug"] and items.frame["image"].isna().all()
    missing, link = items.notes
    assert (missing.row, missing.reason) == ("items.csv:2", "image missing: gone.png; the row keeps its title")
    assert link.row == "items.csv:5" and link.reason.startswith("image is a URL: https://s/x.png; download it")
    assert [p.row for p in items.problems] == ["items.csv:3"]
    assert load_catalog("table", path).titles == ["Blue plate"]  # to learn from it is a bad row
    with pytest.raises(CatalogError, match=r"items.csv:2: image missing"):
        load_catalog("table", path, labelled=False, strict=True)


def test_near_duplicates_share_a_group_with_the_users_own(tmp_path):
    for name, seed in [("a", 0), ("b", 1), ("c", 1), ("d", 2)]:
        save_picture(tmp_path / f"{name}.png", seed)
    Image.open(tmp_path / "a.png").save(tmp_path / "same_pixels.bmp")
    rows = ["image,title,category,group", "a.png,One,cup,", "same_pixels.bmp,Two,plate,", "b.png,three,cup,g"]
    rows += ["c.png,Four,cup,", "d.png,FIVE,cup,g", "d.png,Six,cup,", ",one,plate,", ", ONE ,cup,", ",Seven,cup,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    assert load_catalog("table", tmp_path).groups.tolist() == [0, 0, 1, 1, 1, 1, 2, 0, 3]


def test_a_category_has_one_parent(tmp_path):
    (tmp_path / "t.csv").write_text("title,category,parent\nA,cup,ware\nB,cup,gift\nC,cup,ware\nD,cup,\n")
    catalog = load_catalog("table", tmp_path)
    assert catalog.frame["parent"].tolist() == ["ware"] * 4
    assert [(p.row, p.reason) for p in catalog.notes] == [
        ("t.csv:3", "parent changed: 'gift' to 'ware', as most of 'cup'")
    ]


def test_parquet_gives_the_same_as_csv(planted):
    good = {"id": [1, 2, None], "image": ["img/0.png", None, "img/9.png"], "title": ["A", "B", "C"]}
    frame = pd.DataFrame(good | {"category": pd.Categorical(["cup", "plate", "cup"])})
    frame.to_parquet(planted.parent / "t.parquet")
    frame.astype({"id": "Int64"}).to_csv(planted.parent / "t.csv", index=False)
    parquet, text = (load_catalog("table", planted.parent / f"t.{kind}") for kind in ("parquet", "csv"))
    pd.testing.assert_frame_equal(parquet.frame, text.frame)
    assert parquet.frame["product_id"].tolist() == ["1", "2"]
    assert [(p.row, p.reason) for p in parquet.problems] == [("t.parquet:3", "image missing: img/9.png")]


def test_parquet_cells_that_are_no_text(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.array([b"cup", b"\xff\xfe", b"plate"]).view(pa.binary()).cast(pa.string(), safe=False)
    titles = pa.array([["a list"], None, None])
    pq.write_table(pa.table({"category": text, "title": titles, "image": ["0.png"] * 3}), tmp_path / "t.parquet")
    save_picture(tmp_path / "0.png")
    catalog = load_catalog("table", tmp_path)
    assert [p.reason.split(":")[0] for p in catalog.problems] == ["cell not text", "text not UTF-8"]
    unread = {"title": ["Cup", "Jug"], "category": ["cup", "jug"], "tags": [["x"], None], "thumb": [b"\xff", b""]}
    pq.write_table(pa.table(unread), tmp_path / "t.parquet")
    catalog = load_catalog("table", tmp_path)
    assert catalog.titles == ["Cup", "Jug"] and not catalog.problems and catalog.frame["tags"].isna().all()
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(CatalogError, match="cannot be read as Parquet"):
        load_catalog("table", tmp_path)


def test_a_folder_per_category(tmp_path):
    for i, name in enumerate(
        ["train/ware/cup/1.png", "train/ware/plate/1.jpg", "test/gift/cup/2.png", "test/gift/x.txt"]
    ):
        save_picture(tmp_path / name, seed=i) if i < 3 else (tmp_path / name).write_text("hello")
    (tmp_path / "train/.hidden").write_text("")
    catalog = load_catalog("table", tmp_path)
    columns = ["product_id", "category", "parent", "split", "image"]
    assert catalog.frame[columns].values.tolist() == [
        ["test/gift/cup/2.png", "gift/cup", "gift", "test", "test/gift/cup/2.png"],
        ["train/ware/cup/1.png", "ware/cup", "ware", "train", "train/ware/cup/1.png"],
        ["train/ware/plate/1.jpg", "plate", "ware", "train", "train/ware/plate/1.jpg"],
    ]
    assert [(p.row, p.reason.split(":")[0]) for p in catalog.problems] == [("test/gift/x.txt", "not a picture")]


def test_folders_of_one_name_are_told_apart_by_as_much_as_it_takes(tmp_path):
    names = ["men/winter/jackets", "women/winter/jackets", "women/winter/coats", "a/Cafe\u0301", "b/Caf\u00e9"]
    for i, name in enumerate(names):
        save_picture(tmp_path / name / "1.png", seed=i)
    found = load_catalog("table", tmp_path)
    cafes, jackets = ["a/Caf\u00e9", "b/Caf\u00e9"], ["men/winter/jackets", "coats", "women/winter/jackets"]
    assert found.frame["category"].tolist() == cafes + jackets
    assert found.frame["parent"].tolist() == ["a", "b"] + ["winter"] * 3


def test_folders_that_are_links_are_read_and_those_that_lead_back_are_named(tmp_path):
    save_picture(tmp_path / "elsewhere/1.png")
    save_picture(tmp_path / "shop/mugs/1.png", seed=1)
    (tmp_path / "shop/vases").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "shop/mugs/again").symlink_to(tmp_path / "shop")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "shop/mugs")  # mugs, vases, mugs
    catalog = load_catalog("table", tmp_path / "shop")
    assert catalog.categories == ("back", "mugs", "vases")
    told = {p.row.removeprefix(str(tmp_path)): p.reason for p in catalog.problems}
    assert set(told) == {"/shop/mugs/again", "/shop/vases/back/again"}
    assert all("link to a folder around it" in reason for reason in told.values())


def test_names_of_folders_and_files_as_systems_write_them(tmp_path):
    for i, name in enumerate(["Training/Cafe\u0301/1.png", "testing/Cafe\u0301/Screenshot 9.41\u202fAM.png"]):
        save_picture(tmp_path / "shop" / name, seed=i)
    catalog = load_catalog("table", tmp_path / "shop")
    assert catalog.categories == ("Caf\u00e9",) and catalog.frame["split"].tolist() == ["train", "test"]
    assert not catalog.problems
    save_picture(tmp_path / "shop/testing/Cafe\u0301/line\nbreak.png", seed=3)
    (problem,) = load_catalog("table", tmp_path / "shop").problems
    assert "in the file's name" in problem.reason


def test_empty_folders_are_named(tmp_path):
    save_picture(tmp_path / "ware/cup/1.png")
    for name in ("ware/plate", "ware/bowl/.hidden", "gift/cup"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ware/plate/Thumbs.db").write_text("")
    catalog = load_catalog("table", tmp_path)
    assert catalog.categories == ("cup",) and catalog.emptied == ("bowl", "plate")
    assert [(p.row, p.reason.split(":")[0]) for p in catalog.problems] == [
        (name, "folder empty") for name in ("gift/cup", "ware/bowl", "ware/plate")
    ]


def test_pictures_outside_any_category(tmp_path):
    save_picture(tmp_path / "cups/1.png")
    save_picture(tmp_path / "2.png", 2)
    catalog = load_catalog("table", tmp_path)
    assert catalog.categories == ("cups",)
    assert [(p.row, p.reason.split(":")[0]) for p in catalog.problems] == [("2.png", "category empty")]


def test_a_root_that_is_no_table(tmp_path):
    with pytest.raises(CatalogError, match=r"no table at .*/nowhere: give a \.csv, \.tsv or \.parquet file"):
        load_catalog("table", tmp_path / "nowhere")
    (tmp_path / "a.csv").write_text("title,category\nA,cup\n")
    (tmp_path / "._a.csv").write_bytes(b"\0\5\x16\7")  # which macOS puts beside it
    assert load_catalog("table", tmp_path).titles == ["A"]
    (tmp_path / "b.tsv").write_text("x")
    with pytest.raises(CatalogError, match=r"holds several tables, \['a\.csv', 'b\.tsv'\]"):
        load_catalog("table", tmp_path)
    (tmp_path / "sheet.xlsx").write_text("x")
    with pytest.raises(CatalogError, match=r"cannot read \.xlsx; save it as CSV or Parquet"):
        load_catalog("table", tmp_path / "sheet.xlsx")
