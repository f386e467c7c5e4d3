"""Tables from records: exact Markdown of constructed records, refusals, generated blocks."""

from __future__ import annotations

import pytest

from fewshot_prod import pages
from fewshot_prod.grouping import METHOD_ORDER, current
from fewshot_prod.reproduction import minutes, reproduction_table
from fewshot_prod.results import RESULT_VERSION, append_record, cell, cell_key, difference, measured, training_history
from fewshot_prod.tables import IMAGENET, MASKED, differences_table, methods_table, seconds_table


def record(accuracy: float, *, ci95: float = 0.002, skipped: dict | None = None, **changes) -> dict:
    fields = {
        "experiment": "t",
        "catalog": "synthetic",
        "split": "synthetic_random",
        "method": "prototypical",
        "encoder": "conv4",
        "n_way": 5,
        "n_shot": 1,
        "n_query": 15,
        "n_episodes": 10_000,
        "episode_seed": 0,
        "train_seed": 0,
        "norm": "running",
        "config": {},
        "catalog_fingerprint": "c0",
        "split_fingerprint": "50",
    }
    return measured(cell(**{**fields, **changes}), accuracy=accuracy, ci95=ci95, skipped=skipped)


def rows_of(table: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]


def test_the_whole_table():
    cells = [
        record(0.70, method="maml", n_shot=5, n_episodes=200, ci95=0.011),
        record(0.60, method="prototypical", n_shot=1),
        record(0.801, method="prototypical", n_shot=5),
        record(0.59, method="nearest_centroid", n_shot=1),
        record(0.7905, method="nearest_centroid", n_shot=5, ci95=0.0021),
    ]
    assert methods_table(cells) == (
        "Accuracy in %; ± is the half-width of the 95 % interval over n episodes. synthetic, synthetic_random, "
        "image, conv4, balanced queries, 5-way, 15 queries a class, norm running, inductive.\n"
        "\n"
        "| method | 1-shot | 5-shot | episodes |\n"
        "| --- | --: | --: | --: |\n"
        "| nearest centroid | 59.0 ± 0.2 | 79.0 ± 0.2 | 10,000 |\n"
        "| prototypical | 60.0 ± 0.2 | 80.1 ± 0.2 | 10,000 |\n"
        "| maml | – | 70.0 ± 1.1 | 200 |\n"
    ).replace("79.0 ± 0.2", f"{79.05:.1f} ± 0.2")


def test_training_seeds_are_averaged_and_their_range_is_shown():
    cells = [record(a, train_seed=s, ci95=h) for s, (a, h) in enumerate([(0.78, 0.002), (0.80, 0.003), (0.793, 0.004)])]
    table = methods_table(cells)
    assert rows_of(table)[2] == ["prototypical", "79.1 ± 0.3 (78.0 to 80.0)"]
    assert "mean over 3 training seeds (lowest to highest seed)" in table and "over 10,000 episodes" in table
    mixed = methods_table([*cells, record(0.7, method="linear_probe")])
    assert rows_of(mixed)[0][-1] == "training seeds"
    assert [row[-1] for row in rows_of(mixed)[2:]] == ["3", "1"]


def test_ways_shots_and_masking_make_columns_in_reading_order_and_untitled_rows_have_no_masked_cell():
    title = {"modality": "image+title", "fusion": "attention"}
    cells = [
        record(0.5, n_way="all", n_shot=5),
        record(0.7, n_shot=10),
        record(0.6, n_shot=2),
        record(0.9, n_shot=2, mask_class_words=False, **title),
        record(0.8, n_shot=2, mask_class_words=True, **title),
    ]
    table = methods_table(cells)
    header, _, image, fused = rows_of(table)
    columns = ["5-way 2-shot", "5-way 10-shot", "all novel classes 5-shot", "class words masked 5-way 2-shot"]
    assert header == ["modality", "fusion", *columns]
    assert image == ["image", "–", "60.0 ± 0.2", "70.0 ± 0.2", "50.0 ± 0.2", "–"]
    assert fused == ["image+title", "attention", "90.0 ± 0.2", "–", "–", "80.0 ± 0.2"]
    assert MASKED in table and MASKED not in methods_table(cells[:3])


def test_what_methods_may_differ_in_is_told_with_each_row():
    cells = [
        record(0.6),
        record(0.7, method="maml", norm="batch", transductive=True, pretrained_on="ImageNet", images_seen=50_000),
    ]
    table = methods_table(cells)
    assert rows_of(table)[0][2:] == ["norm", "transductive", "pretrained on", "products seen"]
    assert rows_of(table)[3][2:] == ["batch", "transductive", "ImageNet", "50,000"]
    assert IMAGENET.format(names="conv4") in table and "ImageNet" not in methods_table(cells[:1])


def test_products_that_a_row_sees_nothing_of_stand_under_the_table():
    blind = record(0.6) | {"lacking": {"products": 138, "of": 1624}}
    assert cell_key(blind) == cell_key(record(0.6))  # a cell that was measured before stays measured
    table = methods_table([blind, record(0.7, n_shot=20) | {"lacking": blind["lacking"]}])
    told = "138 of 1,624 products have no image: rows that read nothing else see nothing of them."
    assert table.endswith(f"\n{told}\n") and table.count(told) == 1
    assert "products have no" not in methods_table([record(0.6)])


def test_encoders_that_training_left_as_they_were_stand_under_the_table():
    """By equal weights: of the two the start has seen less. Another training seed, or masking, is another training."""

    def trained(encoder: str, seed: int, weights: str, images_seen: int, **changes) -> dict:
        fields = {"encoder": encoder, "train_seed": seed, "encoder_hash": weights, "images_seen": images_seen}
        return record(0.6, **fields, **changes)

    started = [trained("conv4", seed, f"start {seed}", 100) for seed in (0, 1)]
    further = [trained("conv4_maml", seed, weights, 200) for seed, weights in ((0, "start 0"), (1, "moved"))]
    probe = trained("conv4", 0, "start 0", 100, method="linear_probe")
    table = methods_table([*further, *started, probe])
    told = "Validation chose the start in these trainings, whose weights are those that they went on from: "
    assert f"{told}conv4_maml (1 of 2)." in table.splitlines()
    masked = [trained(name, 0, "masked", n, mask_class_words=True) for name, n in (("conv4", 100), ("conv4_maml", 200))]
    assert f"{told}conv4_maml (2 of 3)." in methods_table([*further, *started, *masked])
    siblings = [trained(name, 0, "start 0", 200) for name in ("conv4_maml", "conv4_anil")]  # whose start is not here
    assert told not in methods_table(siblings)
    assert "Validation chose" not in methods_table([*started, probe, further[1]])
    assert "Validation chose" not in methods_table([record(0.6), record(0.7, encoder="gru")])  # no hashes


def test_skipped_classes_stand_under_the_table():
    table = methods_table([record(0.6), record(0.7, n_shot=20, skipped={"Mufflers": 31})])
    assert "Skipped, too few products: Mufflers (20-shot)." in table


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"episode_seed": 1}, r"cells differ in episode_seed \(0, 1\): select one or make it a row or column"),
        ({"catalog_fingerprint": "c1"}, r"cells differ in catalog_fingerprint \(c0, c1\)"),
        ({"split_fingerprint": "51"}, r"cells differ in split_fingerprint \(50, 51\)"),
        ({"config": {"lr": 1}}, r"2 cells for one place, .*; they differ in \['config'\]"),
    ],
)
def test_a_table_refuses_to_mix(changes, message):
    other = {"method": "maml"} if "config" not in changes else {}
    with pytest.raises(ValueError, match=message):
        methods_table([record(0.6), record(0.6, **other, **changes)])


def test_a_field_left_out_of_rows_and_columns_is_not_averaged_away():
    cells = [record(0.6, n_query=15), record(0.7, n_query=10)]
    assert "15 queries a class" in methods_table(cells)
    with pytest.raises(ValueError, match="cells differ in n_query"):
        methods_table(cells, columns=("n_way", "n_shot"))


def test_records_of_another_result_version_take_no_part():
    stale = record(0.1, result_version=RESULT_VERSION - 1)
    assert "10.0" not in methods_table([stale, record(0.6)])
    assert methods_table([stale]) == "No records yet.\n"


def test_filters():
    cells = [record(0.6), record(0.7, method="maml"), record(0.8, method="maml", n_shot=5)]
    assert len(current(cells, "cell", method="maml,prototypical", n_shot="1")) == 2
    assert current(cells, "difference") == []


def test_differences_are_bold_where_every_seed_leaves_out_zero():
    proto = {"method": "prototypical", "encoder": "conv4_prototypical"}
    lines = []
    for shot, means in ((1, (0.010, 0.006)), (5, (0.010, 0.001)), (10, (-0.010, -0.020))):
        for seed, mean in enumerate(means):
            a = record(0.6, n_shot=shot, train_seed=seed, **proto)
            b = record(0.6, n_shot=shot, train_seed=seed, method="nearest_centroid")
            lines.append(difference(a, b, mean=mean, ci95=0.002))
    table = differences_table(lines)
    assert rows_of(table)[0] == ["difference", "1-shot", "5-shot", "10-shot"]
    assert rows_of(table)[2] == [
        "conv4_prototypical − conv4, nearest centroid",
        "**+0.8 ± 0.2 (+0.6 to +1.0)**",
        "+0.6 ± 0.2 (+0.1 to +1.0)",
        "**−1.5 ± 0.2 (−2.0 to −1.0)**",
    ]


def test_differences_of_titles_say_which_titles_are_masked():
    image = record(0.6)
    fused = [record(0.7, modality="image+title", mask_class_words=m, encoder="conv4_gru") for m in (False, True)]
    lines = [difference(f, image, mean=0.1, ci95=0.01) for f in fused]
    table = rows_of(differences_table(lines))
    assert table[0] == ["difference", "1-shot", "class words masked 1-shot"]
    assert table[2][0] == "conv4_gru − conv4"
    plain_against_masked = difference(fused[0], fused[1], mean=0.05, ci95=0.01)
    assert rows_of(differences_table([plain_against_masked]))[::2] == [
        ["difference", "1-shot"],
        ["class words kept − class words masked", "**+5.0 ± 1.0**"],
    ]


PAGE = """# Title
<!-- table:t method=maml -->
old
<!-- end -->
between
<!-- differences:t -->
<!-- end -->
"""


def test_pages_are_written_from_records_and_a_second_time_alike(tmp_path, capsys):
    readme, results = tmp_path / "README.md", tmp_path / "results"
    readme.write_text(PAGE)
    for shot in (1, 5):
        append_record(results / "t.jsonl", record(0.6 + shot / 100, method="maml", n_shot=shot))
        append_record(results / "t.jsonl", record(0.7 + shot / 100, n_shot=shot))
        append_record(results / "fig_t.jsonl", record(0.7, n_shot=shot))
    pages.write_tables(results, tmp_path / "tables", tmp_path / "figures", (readme,))
    page = readme.read_text()
    assert "| maml | 61.0 ± 0.2 | 65.0 ± 0.2 |" in page and "old" not in page and "71.0" not in page
    assert "\nbetween\n" in page and page.endswith("No paired differences yet.\n<!-- end -->\n")
    assert "| prototypical | 71.0 ± 0.2 | 75.0 ± 0.2 |" in (tmp_path / "tables" / "t.md").read_text()
    assert (tmp_path / "figures" / "fig_t.png").read_bytes().startswith(b"\x89PNG")
    pages.write_tables(results, tmp_path / "tables", tmp_path / "figures", (readme,))
    assert readme.read_text() == page


def test_a_block_moves_columns_into_lines_and_leaves_fields_out(tmp_path):
    titles = {"encoder": "gru", "modality": "title", "fusion": None, "images_seen": 9}
    for mask, accuracy in ((False, 0.6), (True, 0.5)):
        append_record(tmp_path / "t.jsonl", record(accuracy, mask_class_words=mask, **titles))
    append_record(tmp_path / "t.jsonl", record(0.7, images_seen=8))
    (tmp_path / "page.md").write_text("<!-- table:t rows=mask_class_words without=images_seen -->\n<!-- end -->\n")
    (block,) = pages.generated_blocks(tmp_path / "page.md", tmp_path).values()
    header, _, image, plain, masked = rows_of(block)
    assert header == ["modality", "encoder", "mask class words", "1-shot"]
    assert image == ["image", "conv4", "", "70.0 ± 0.2"]
    assert (plain[2:], masked[2:]) == (["", "60.0 ± 0.2"], ["class words masked", "50.0 ± 0.2"])


def test_what_is_left_out_must_not_be_all_that_tells_lines_apart():
    cells = [record(0.6, encoder="conv4"), record(0.7, encoder="resnet12")]
    with pytest.raises(ValueError, match="2 cells for one place"):
        methods_table(cells, without=("encoder",))


def test_how_a_file_is_made_again_is_read_from_its_records(tmp_path):
    """Minutes: both encoders, the second less what it shares with the first, and measuring them."""
    (tmp_path / "t_methods.py").touch()
    base, further = {"recipe": "conv4", "start": None}, {"recipe": "b", "start": {"recipe": "conv4", "start": None}}
    cells = [
        record(0.6, config={"row": "a", "training": base}) | {"train_seconds": 600.0, "eval_seconds": 60.0},
        record(0.65, n_shot=5, config={"row": "a", "training": base}) | {"train_seconds": 600.0, "eval_seconds": 60.0},
        record(0.7, config={"row": "b", "training": further}) | {"train_seconds": 900.0, "eval_seconds": 60.0},
        record(0.8, train_seed=1, config={"row": "a", "training": base}) | {"train_seconds": 1e6, "eval_seconds": 0.0},
    ]
    assert minutes(cells[:3]) == 18
    fused = {"recipe": "c", "start": further, "title_start": base}  # 1,560 seconds: both of these, and a minute
    cells.append(record(0.8, config={"row": "c", "training": fused}) | {"train_seconds": 1560.0, "eval_seconds": 0.0})
    assert minutes([*cells[:3], cells.pop()]) == 19
    page = reproduction_table({"t": cells, "empty": []}, tmp_path)
    assert (
        "| `experiments/t_methods.py --catalog synthetic --seeds 0` | 18 | 2 | `seed 0  a  5-way 5-shot: 65.00 ±"
        in page
    )
    (tmp_path / "t_methods.py").unlink()
    with pytest.raises(ValueError, match="experiment 't' is made by no script"):
        reproduction_table({"t": cells}, tmp_path)


@pytest.mark.parametrize("split", ["omniglot_vinyals", "omniglot_official"])
def test_omniglot_s_page_begins_with_the_published_numbers_of_its_split_and_has_its_figure(split, tmp_path):
    results = tmp_path / "results"
    (tmp_path / "README.md").write_text("")
    row = {"config": {"row": "matching"}, "catalog": "omniglot", "method": "matching"}
    for way, shot in ((5, 1), (20, 5)):
        append_record(
            results / f"{split}.jsonl",
            record(0.9725, n_way=way, n_shot=shot, split=split, **row) | {"train_seconds": 90},
        )
    rows = [{"iteration": k, "score": 0.9 + k / 100} for k in range(3)]
    where = {"catalog": "omniglot", "split": split, "train_seed": 0, "encoder_hash": "a"}
    append_record(results / f"{split}.jsonl", training_history(rows, **where, encoder="conv4", images_seen=100))
    pages.write_tables(results, tmp_path / "tables", tmp_path / "figures", (tmp_path / "README.md",))
    table = rows_of((tmp_path / "tables" / f"{split}.md").read_text())
    if split == "omniglot_vinyals":  # published numbers are on this one
        assert table.pop(2)[:5] == ["*Vinyals et al. 2016, table 1*", "*98.1*", "*98.9*", "*93.8*", "*98.5*"]
    assert table[2][:6] == ["matching", "97.25 ± 0.20", "–", "–", "97.25 ± 0.20", "0"]
    assert (tmp_path / "figures" / f"{split}_training.png").read_bytes().startswith(b"\x89PNG")


def test_omniglot_s_curves_leave_out_what_goes_on_from_another_encoder():
    rows = [{"iteration": k, "score": 0.9} for k in range(3)]
    where = {"catalog": "omniglot", "split": "s", "train_seed": 0, "encoder_hash": "a", "images_seen": 100}
    histories = [training_history(rows, **where, encoder=name) for name in ("maml", "maml_long")]
    cell = record(0.9, encoder="maml_long", config={"row": "long", "training": {"start": {"recipe": "maml"}}})
    draw = pages.figures_of("omniglot_s", [*histories, cell])["omniglot_s_training"]
    assert {record["encoder"] for record in draw.args[0]} == {"maml"}


def test_results_that_are_only_begun_have_pages(tmp_path):
    """Table 2b before anything is missing; a block for a file that is not there yet."""
    (tmp_path / "README.md").write_text("<!-- published:omniglot_s -->\n<!-- end -->\n<!-- table:t -->\n<!-- end -->\n")
    append_record(tmp_path / "results" / "table2b_missing_s.jsonl", record(0.8, config={"row": "image"}))
    pages.write_tables(tmp_path / "results", tmp_path / "tables", tmp_path / "figures", (tmp_path / "README.md",))
    assert (tmp_path / "tables" / "table2b_missing_s.md").exists() and not (tmp_path / "figures").exists()
    blocks = pages.generated_blocks(tmp_path / "README.md", tmp_path)
    assert set(blocks.values()) == {"No records yet.\n"} and len(blocks) == 2


def test_an_unknown_block_is_an_error(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    with pytest.raises(ValueError, match="has no block 'table:u': add '<!-- table:u -->' and '<!-- end -->' lines"):
        pages.update_generated_blocks(tmp_path / "page.md", {"table:u": "x"})


def test_two_normalisations_of_one_encoder_and_method_are_two_rows():
    cells = [
        record(0.98, method="maml", norm="batch", transductive=True),
        record(0.95, method="maml", norm="support"),
        record(0.97, norm="frozen"),
    ]
    timed = [cell | {"eval_seconds": float(i)} for i, cell in enumerate(cells, 10)]
    assert [line[:3] for line in rows_of(seconds_table(timed))[2:]] == [
        ["prototypical", "frozen", "1.2"],
        ["maml", "batch", "1.0"],
        ["maml", "support", "1.1"],
    ]
    header, _, *rows = rows_of(methods_table(cells))
    assert header == ["method", "norm", "1-shot", "transductive"]
    assert rows == [
        ["prototypical", "frozen", "97.0 ± 0.2", "inductive"],
        ["maml", "batch", "98.0 ± 0.2", "transductive"],
        ["maml", "support", "95.0 ± 0.2", "inductive"],
    ]


def test_rows_that_differ_in_options_alone_are_told_apart_in_tables_and_differences():
    def row(accuracy, name, **options):
        config = {"row": name, "method": {"logit_scale": 10.0, **options}}
        return record(accuracy, method="am3" if options else "nearest_centroid", config=config)

    first, names, texts = row(0.9, "first"), row(0.7, "a", texts="names"), row(0.8, "b", texts="descriptions")
    pairs = [difference(one, first, mean=one["accuracy"] - 0.9, ci95=0.01) for one in (names, texts)]
    everything = [first, names, texts, *pairs]
    described = ["am3, texts descriptions", "80.0 ± 0.2"], ["am3, texts names", "70.0 ± 0.2"]
    assert rows_of(methods_table(everything))[2:] == [["nearest centroid", "90.0 ± 0.2"], *described]
    assert [line[0] for line in rows_of(differences_table(everything))[2:]] == [
        "am3, texts descriptions − nearest centroid",
        "am3, texts names − nearest centroid",
    ]
    assert current(current(everything, "difference"), "difference") == current(everything, "difference")
    steps = [row(0.5 + k / 100, str(k), norm="batch", n_adaptation_steps=k) | {"norm": "batch"} for k in (5, 10)]
    steps.append(row(0.4, "c", norm="support", n_adaptation_steps=5) | {"norm": "support"})
    assert [line[:2] for line in rows_of(methods_table(steps))[2:]] == [
        ["am3, adaptation steps 5", "batch"],
        ["am3, adaptation steps 5", "support"],
        ["am3, adaptation steps 10", "batch"],
    ]


def test_seconds_are_for_a_thousand_episodes_and_a_mean_over_seeds():
    def timed(seconds, **changes):
        return {**record(0.5, **changes), "eval_seconds": seconds}

    page = seconds_table(
        [timed(0.5), timed(0.3, train_seed=1), timed(40.0, method="maml", n_episodes=200), timed(2.0, n_shot=5)]
    )
    assert rows_of(page)[2] == ["prototypical", "0.040", "0.200", "10,000", "1–2"]
    assert rows_of(page)[3] == ["maml", "200", "–", "200", "1"]
    assert "±" not in page and "measured over n episodes" in page


def test_a_pair_with_an_untrained_side_belongs_to_the_other_sides_seed():
    frozen = record(0.70, encoder="lite0", train_seed=None)
    pairs = [
        difference(
            record(0.80 + 0.01 * seed, encoder="tuned", train_seed=seed), frozen, mean=0.1 + 0.01 * seed, ci95=0.01
        )
        for seed in (0, 1)
    ]
    assert rows_of(differences_table(pairs))[2] == ["tuned − lite0", "**+10.5 ± 1.0 (+10.0 to +11.0)**"]


def test_every_method_has_its_place_in_tables():
    from fewshot_prod.methods import METHODS

    assert sorted(METHOD_ORDER) == sorted(METHODS)
