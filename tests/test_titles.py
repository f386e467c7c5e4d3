from __future__ import annotations

import re
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from fewshot_prod.catalog import Catalog, load_catalog
from fewshot_prod.catalog.class_words import class_word_masker, naming_rate
from fewshot_prod.catalog.titles import TitleTokenizer, _jieba, normalise_title
from fewshot_prod.encoders.title.bag import BagEncoder
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.evaluation import evaluate
from fewshot_prod.methods.nearest_centroid import NearestCentroid
from fewshot_prod.prepare import untrained
from fewshot_prod.recipes import RECIPES

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


def test_titles_are_cut_where_almost_all_of_the_trainings_end():
    """A noun at the end of long titles, as in market places, is read; one title of thousands does not stretch all."""
    long = [f"官方旗舰店正品包邮新款北欧简约现代风高品质加厚耐用百搭潮流{noun}" for noun in ("保温杯", "羽绒服")] * 5
    tokenizer = TitleTokenizer.train(long)
    assert tokenizer.max_length == 32 == tokenizer.encode(long)[0].shape[1]
    first, second = tokenizer.encode(long[:2])[0]
    assert not first.equal(second)
    assert TitleTokenizer.from_json(tokenizer.to_json()).max_length == 32
    assert TitleTokenizer.train([*["red shoe"] * 200, "shoe " * 60]).max_length == 24
    assert TitleTokenizer.train(["shoe " * 90]).max_length == 64
    short = TitleTokenizer.train(["red shoe"])
    assert short.max_length == 24 and "max_length" not in short.to_json()


def test_encode_pads_trims_and_marks_missing_titles(tokenizer):
    tokens, lengths = tokenizer.encode(["running shoes", None, "", " \u3000", "nike"])
    assert lengths.tolist() == [2, 0, 0, 0, 1]
    assert tokens.shape == (5, 2) and tokens.dtype == lengths.dtype
    assert tokens[0].min() > 0 and tokens[1:4].abs().sum() == 0 and tokens[4].tolist() == [tokens[4, 0], 0]
    long, long_lengths = tokenizer.encode(["shoes " * 100], max_length=7)
    assert long.shape == (1, 7) and long_lengths.tolist() == [7] and len(tokenizer.pieces("shoes " * 100, 7)) == 7
    assert len(tokenizer.pieces("shoes " * 100)) == tokenizer.encode(["shoes " * 100])[0].shape[1]
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
    pieces = tokenizer.pieces(title, max_length=100)
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
        ("Women", "woman's watch", "watch"),
        ("Women's Shoes", "red women’s shoe, womens shoes, Women Shoes", "red , ,"),
        ("Womens Shoes", "red women's shoes", "red"),
        ("Boys' Shirts", "red boys shirt", "red"),
        ("Tomato", "two tomatoes", "two"),
        ("Quiz", "two quizzes", "two"),
        ("Tooth Mouse", "teeth-mice", ""),
        ("Snowman", "two snowmen", "two"),
        ("Kopfhörer", "zwei kopfhörers", "zwei"),
        ("Tshirts", "blue T-Shirt", "blue"),
        ("Tshirts", "blue t shirts m", "blue m"),
        ("Tshirts", "T\u2011shirt, T\u2013Shirt, t - shirt, t.shirt, T\u00adshirt, t\u200bshirt", ", , , , ,"),
        ("Tshirts", "size t, shirt", "size t, shirt"),
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
        ("T恤", "白色 T 恤 XL", "白色 xl"),
        ("T恤", "女t 恤衫", "女 衫"),
        ("皮带", "牛皮 带拉链", "牛皮 带拉链"),
        ("围巾和手套", "羊毛围巾", "羊毛"),
        ("围巾 與 手套", "羊毛手套", "羊毛"),
        ("高级和服", "高级 和服 服", "高级 和服 服"),  # 和 between two characters and one joins nothing
        ("Toes", "gift to mum", "gift to mum"),
        ("Necklace", "v neck. lace top", "v neck. lace top"),
        ("Geese or Ducks", "goose, duck", ","),
        ("Kettle + Toaster; Grill", "kettle toaster grills", ""),
        ("Women 's Shoes", "women's shoes", ""),  # an apostrophe by itself
        ("Monitor 24 ''", "monitor 24 inch", "inch"),
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


# --- Chinese ---------------------------------------------------------------------------------------------------------

jieba = pytest.mark.skipif(find_spec("jieba") is None, reason="jieba (extra 'chinese') is not installed")
every_cut = pytest.mark.parametrize("chinese", ["characters", pytest.param("words", marks=jieba), "subwords"])


@pytest.fixture(scope="module")
def chinese_catalog() -> Catalog:
    return load_catalog("synthetic", products_per_category=15, image_size=16, language="zh")


@pytest.fixture(scope="module")
def chinese_shop(tmp_path_factory) -> Catalog:
    """Titles as shops write them: Chinese and English, full width and half, blanks or none, emoji."""
    folder = tmp_path_factory.mktemp("shop")
    styles = (
        "{brand} {thing} {colour}",
        "【{brand}】{colour}{thing}，包邮🎁",
        "{colour}{thing}（{brand} ２０２４新款）❤️",
        "{BRAND}/耐克　{thing}{colour}ＸＬ",
    )
    things = {"跑步鞋": "跑步鞋", "T恤": "Ｔ恤", "平底锅": "平底锅", "Backpack": "双肩Backpack", "台灯": "LED台灯"}
    lines = ["title,category"]
    for category, thing in things.items():
        for i in range(12):
            brand, colour = ("Nike", "Casa", "Pico")[i % 3], ("红色", "蓝色", "黑色", "白色")[i % 4]
            title = styles[i // 3].format(brand=brand, BRAND=brand.upper(), thing=thing, colour=colour)
            lines.append(f"{title},{category}")
    (folder / "shop.csv").write_text("\n".join(lines), encoding="utf-8")
    return load_catalog("table", folder / "shop.csv")


@every_cut
def test_every_cut_spells_the_whole_title(chinese, chinese_catalog):
    tokenizer = TitleTokenizer.train(chinese_catalog.titles, 3000, chinese=chinese)
    for title in chinese_catalog.titles[::50]:
        assert "".join(tokenizer.pieces(title)) == normalise_title(title).replace(" ", "")
    again = TitleTokenizer.from_json(tokenizer.to_json())
    assert again.encode(chinese_catalog.titles)[0].equal(tokenizer.encode(chinese_catalog.titles)[0])
    long = [piece for title in chinese_catalog.titles for piece in again.pieces(title) if re.match("[一-鿿]{2}", piece)]
    assert bool(long) == (chinese != "characters")
    lengths = tokenizer.encode(chinese_catalog.titles)[1].float()
    characters = TitleTokenizer.train(chinese_catalog.titles, 3000).encode(chinese_catalog.titles)[1].float()
    assert lengths.mean() == characters.mean() if chinese == "characters" else lengths.mean() < 0.8 * characters.mean()


@jieba
def test_words_are_those_of_the_language_and_no_others():
    titles = ["耐克红色跑步鞋", "耐克蓝色跑步鞋", "红色运动裤 men 41码", "nike蓝色обувь跑步鞋"] * 3
    tokenizer = TitleTokenizer.train(titles, 400, chinese="words")
    assert tokenizer.pieces("耐克 Ｎｉｋｅ红色跑步鞋") == ["耐克", "nike", "红色", "跑步", "鞋"]
    assert tokenizer.pieces("nike蓝色обувь跑步鞋") == [
        "nike",
        "蓝色",
        "обувь",
        "跑步",
        "鞋",
    ]  # other scripts stay whole
    tokens, lengths = tokenizer.encode(["红色", None, " ", "龘"])
    assert lengths.tolist()[:3] == [1, 0, 0] and lengths[3] == 3 and tokens[0, 0] > 0
    subwords = TitleTokenizer.train(["黑红色鞋红色的", "红色"] * 3, 300, chinese="subwords")
    assert subwords.pieces("红色") == ["红色"]


def test_cuts_refuse(monkeypatch):
    with pytest.raises(ValueError, match="chinese='letters' is not one of 'characters', 'words', 'subwords'"):
        TitleTokenizer.train(TITLES, 400, chinese="letters")
    _jieba.cache_clear()
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(ImportError, match=r"needs the package 'jieba'.*fewshot_prod\[chinese\]"):
        TitleTokenizer.train(["红色"], 400, chinese="words")


def test_chinese_names_are_masked_as_substrings(chinese_catalog, chinese_shop):
    for catalog in (chinese_catalog, chinese_shop):
        mask = class_word_masker(catalog.categories)
        masked = [title and mask(title) for title in catalog.titles]
        names = [normalise_title(name) for name in catalog.categories]
        assert naming_rate(catalog.titles, catalog.frame["category"]) > 0.3
        assert not [title for title in masked if title and any(name in title for name in names if not name.isascii())]
        assert naming_rate(masked, catalog.frame["category"]) == 0
    assert masked[12] == "nike 红色" and masked[-1] == "pico/耐克 led 白色xl"


@every_cut
def test_few_shot_from_titles_of_a_chinese_shop(chinese, chinese_shop):
    """A bag of tokens with random embeddings knows the things again by their tokens; chance is 20 %."""
    catalog = chinese_shop
    assert len(catalog) == 60 and "❤" in normalise_title(catalog.titles[8])
    tokens, lengths = TitleTokenizer.train(catalog.titles, 600, chinese=chinese).encode(catalog.titles)
    torch.manual_seed(0)
    with torch.no_grad():
        features = BagEncoder(600, embedding_dim=256).eval()(tokens, lengths)
    sampler = EpisodeSampler(catalog.category_ids, catalog.groups, n_way=5, n_shot=5, n_query=5, seed=0)
    accuracy = evaluate(NearestCentroid("L2N"), features, sampler, 100).accuracy.mean()
    # Of so few titles "subwords" merges colour and thing into one token, unlike any other's.
    assert accuracy > (0.5 if chinese == "subwords" else 0.8)


def test_an_emoji_is_spelled_in_one_way():
    assert normalise_title("I ❤️ Tea ☕︎") == normalise_title("I ❤ Tea ☕") == "i ❤ tea ☕"


@jieba
def test_a_recipe_says_how_chinese_is_cut(chinese_catalog):
    prepared = untrained(RECIPES["gru_words"], chinese_catalog, None, 0)
    assert prepared.encoder.tokenizer.pieces("红色跑步鞋") != list("红色跑步鞋")
    assert "chinese" not in prepared.encoder.config["title"]
    inputs = prepared.inputs(chinese_catalog.take(np.arange(5)))
    assert prepared.encoder(inputs).shape == (5, 256)
