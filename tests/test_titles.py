from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fewshot_prod.catalog.class_words import class_word_masker, naming_rate
from fewshot_prod.catalog.titles import TitleTokenizer, normalise_title

TITLES = [
    "Nike Men Black Running Shoes",
    "Nike Women White Running Shoes",
    "Puma Men Blue T-shirt",
    "耐克 男士黑色跑步鞋",
    "耐克女士白色跑步鞋",
    "彪马蓝色T恤 男款",
    "Lakmé Eyeliner 🎁 gift 🎁",
    None,
    "",
] * 3


@pytest.fixture(scope="module")
def tokenizer() -> TitleTokenizer:
    return TitleTokenizer.train(TITLES, vocab_size=400)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("  Red \t SHOE\n", "red shoe"),
        ("ＮＩＫＥ　ａｉｒ", "nike air"),  # full width, ideographic blank
        ("ﬁne Straße №5", "fine strasse no5"),  # compatibility characters, case folding beyond lower case
        ("Cafe\u0301", "café"),  # combining accent
        ("白色Ｔ恤", "白色t恤"),
        ("👟 Shoe", "👟 shoe"),
        ("", ""),
    ],
)
def test_normal_form(title, expected):
    assert normalise_title(title) == expected
    assert normalise_title(expected) == expected


def test_encode_pads_trims_and_marks_missing_titles(tokenizer):
    tokens, lengths = tokenizer.encode(["running shoes", None, "", " \u3000", "nike"])
    assert lengths.tolist() == [2, 0, 0, 0, 1]
    assert tokens.shape == (5, 2) and tokens.dtype == lengths.dtype
    assert tokens[0].min() > 0 and tokens[1:4].abs().sum() == 0 and tokens[4].tolist() == [tokens[4, 0], 0]
    long, long_lengths = tokenizer.encode(["shoes " * 100], max_length=7)
    assert long.shape == (1, 7) and long_lengths.tolist() == [7]
    only_missing, zero = tokenizer.encode([None, None])
    assert only_missing.tolist() == [[0], [0]] and zero.tolist() == [0, 0]
    assert tokenizer.encode([])[0].shape == (0, 1)


def test_same_title_in_other_clothes_has_the_same_tokens(tokenizer):
    tokens, _ = tokenizer.encode(["Nike Running", "ＮＩＫＥ　ｒｕｎｎｉｎｇ", "  nike\trunning "])
    assert tokens[0].tolist() == tokens[1].tolist() == tokens[2].tolist()


def test_every_chinese_character_is_a_token_of_its_own(tokenizer):
    assert tokenizer.pieces("耐克黑色跑步鞋 men") == [*"耐克黑色跑步鞋", "men"]
    assert tokenizer.pieces("蓝色t恤") == ["蓝", "色", "t", "恤"]


@pytest.mark.parametrize("title", ["🧦", "नमस्ते", "ﷺ", "龘", "\x00\u200b", "Ω≈ç√∫", "mixed 龘 🧦 нож"])
def test_nothing_is_unknown(tokenizer, title):
    """A title in characters never seen is told apart: its pieces spell its UTF-8 bytes."""
    pieces = tokenizer.pieces(title)
    spelled = b"".join(bytes([int(piece[1:-1], 16)]) if piece.startswith("<0x") else piece.encode() for piece in pieces)
    assert spelled.decode() == normalise_title(title).replace(" ", "")
    tokens, lengths = tokenizer.encode([title], max_length=100)
    assert lengths[0] == len(pieces) and tokens.min() > 0


def test_titles_cannot_spell_special_tokens(tokenizer):
    tokens, lengths = tokenizer.encode(["<pad>", "<0x41> <pad> shoes"])
    assert all((row[:n] > 0).all() for row, n in zip(tokens, lengths, strict=True))
    assert "<0x41>" not in tokenizer.pieces("<0x41>")


def test_json_round_trip(tokenizer):
    again = TitleTokenizer.from_json(tokenizer.to_json())
    titles = [*TITLES, "unseen 龘 🧦"]
    assert again.encode(titles)[0].tolist() == tokenizer.encode(titles)[0].tolist()
    assert again.vocab_size == tokenizer.vocab_size
    with pytest.raises(ValueError, match="not a tokenizer's JSON"):
        TitleTokenizer.from_json("{}")


def test_training_is_the_same_in_every_process():
    """The trainer's hash tables are seeded anew in each process; 1,500 equally frequent characters show it."""
    titles = [chr(0x4E00 + i) * 2 + f" w{i % 7} red shoe{i % 5}" for i in range(1500)]
    code = (
        "import sys; from fewshot_prod.catalog.titles import TitleTokenizer;"
        "print(TitleTokenizer.train(sys.stdin.read().splitlines(), 900).to_json(), end='')"
    )
    other = subprocess.run([sys.executable, "-c", code], input="\n".join(titles), capture_output=True, text=True)
    assert other.stdout == TitleTokenizer.train(titles, 900).to_json()


def test_vocabulary_keeps_its_size_and_room_for_merges():
    titles = [chr(0x4E00 + i) * 2 + " running shoes" for i in range(1000)]
    tokenizer = TitleTokenizer.train(titles, vocab_size=500)
    assert tokenizer.vocab_size <= 500
    assert tokenizer.pieces("running shoes") == ["running", "shoes"]
    with pytest.raises(ValueError, match="vocab_size=257 must exceed 257"):
        TitleTokenizer.train(titles, vocab_size=257)


# --- naming a category -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("category", "title", "masked"),
    [
        ("Watches", "Casio black WATCH w-5", "casio black w-5"),
        ("Watch", "two watches", "two"),
        ("Scarves", "wool scarf", "wool"),
        ("Scarf", "wool scarves", "wool"),
        ("Accessories", "hair accessory", "hair"),
        ("Dresses", "red dress", "red"),
        ("Dress", "red dresses", "red"),
        ("Women", "woman's watch", "'s watch"),
        ("Tshirts", "blue T-Shirt", "blue"),
        ("Tshirts", "blue t shirts m", "blue m"),
        ("T-Shirts", "blue tshirt", "blue"),
        ("Flip Flops", "flip-flop blue, flipflops, flip flops", "blue, ,"),
        ("Golden-Delicious", "a golden delicious apple", "a apple"),
        ("Sweatshirts", "grey sweat shirt", "grey"),
        ("Caps", "cap S", "s"),  # the size stays
        ("Ring", "earrings with rings on string", "earrings with on string"),
        ("Sports Shoes", "sport shoe, shoes, sports bra", ", shoes, sports bra"),  # parts of a phrase do not count
        ("Kajal and Eyeliner", "kajal & eyeliner set", "set"),
        ("Kajal and Eyeliner", "blue kajal", "blue"),  # but the sides of "and" do
        ("Kajal & Eyeliner", "eyeliners blue", "blue"),
        ("Ties/Cufflinks", "silver cufflink", "silver"),
        ("Handbags", "hand bag, handbag", ","),
        ("衬衫", "男士衬衫 蓝色", "男士 蓝色"),
        ("跑步鞋", "耐克跑步鞋女", "耐克 女"),
        ("T恤", "白色Ｔ恤 XL", "白色 xl"),
        ("衬衫、T恤", "白色T恤", "白色"),
        ("Shoes", "红色shoes 42", "红色 42"),  # Latin beside Chinese, without a blank
        ("ＳＨＯＥＳ", "red shoe", "red"),
        ("🎁", "gift 🎁 box", "gift box"),
        ("C++ (book)", "learn c++ (book) now", "learn ) now"),
        ("Shoes", "shoes", ""),
        ("Shoes", "", ""),
    ],
)
def test_masking(category, title, masked):
    assert class_word_masker([category])(title) == masked


def test_all_categories_are_masked_the_longest_name_first():
    mask = class_word_masker(["Sports", "Sports Shoes", "Shoes", "Lounge Pants"])
    assert mask("Nike sports shoes for sports") == "nike for"
    assert mask("sports  lounge-pant shoe") == ""
    assert class_word_masker([])("Red  Shoe") == "red shoe"


def test_a_phrase_that_a_deletion_brings_together_goes_too():
    assert class_word_masker(["Flip Flops", "Watches"])("blue flip watch flops") == "blue"


def test_naming_rate():
    titles = ["Blue Watch", "strap", None, "T-shirt", "watch", "男士衬衫"]
    categories = ["Watches", "Watches", "Watches", "Tshirts", "Tshirts", "衬衫"]
    assert naming_rate(titles, categories) == 3 / 5
    mask = class_word_masker(categories)
    assert naming_rate([t and mask(t) for t in titles], categories) == 0
    assert naming_rate([None], ["Watches"]) == 0


def test_masking_20000_titles_takes_under_2_seconds():
    first = ["Baby", "Rain", "Lounge", "Sports", "Lip", "Eye", "Face", "Hair", "Travel", "Water"]
    second = ["Trousers", "Shoes", "Bags", "Dresses", "Kits", "Caps", "Scarves", "Robes", "Care", "Liners", "Gloss"]
    categories = [f"{a} {b}" for a in first for b in second]
    titles = [f"brand{i} men dark blue lounge k{i % 50} cotton rain trouser size {i}" for i in range(20_000)]
    start = time.process_time()
    mask = class_word_masker(categories)
    masked = [mask(title) for title in titles]
    assert time.process_time() - start < 2
    assert masked[0] == "brand0 men dark blue lounge k0 cotton size 0"
