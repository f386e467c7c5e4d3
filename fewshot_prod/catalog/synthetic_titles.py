"""Titles of the synthetic catalog: a grammar with brands, colours, materials, synonyms, sizes and noise words."""

from __future__ import annotations

import re

from fewshot_prod.catalog.synthetic_categories import COLOURS, Category, Parent
from fewshot_prod.catalog.synthetic_dice import Dice
from fewshot_prod.catalog.synthetic_images import Look

LANGUAGES = ("en", "zh")
# What stands for the product, in percent; the rest of the titles has a vague word of the parent.
NAMED, SYNONYM = 42, 20

# Every word list holds (English, Chinese); no word of these lists names a category.
BRANDS = (
    ("Nordvik", "诺维"), ("Casa Luma", "卢玛"), ("Ostara", "奥思达"), ("Brightwell", "明威"), ("Kestrel", "凯斯特"),
    ("Hinoki & Co", "桧木社"), ("Vantora", "梵拓"), ("Pelham", "佩勒姆"), ("Zephyra", "西风"), ("Rowan Lane", "若恩"),
    ("Mirelle", "蜜蕾"), ("Tavola", "塔沃"), ("Urbanix", "都力"), ("Solbergen", "索博"), ("Quillon", "奎龙"),
    ("Fennimore", "芬摩"), ("Aster Bay", "星湾"), ("Lindqvist", "林奎"), ("Maro", "马洛"), ("Everhart", "恒心"),
    ("Pico", "皮可"), ("Galena", "方铅"), ("Thornbury", "索恩"), ("Yuzu Works", "柚工坊"),
)  # fmt: skip
LINES = (
    ("Aria", "雅韵"), ("Breeze", "微风"), ("Comet", "彗星"), ("Delta", "三角"), ("Echo", "回声"), ("Fjord", "峡湾"),
    ("Grove", "林间"), ("Halo", "光环"), ("Iris", "鸢尾"), ("Juno", "朱诺"), ("Koda", "柯达拉"), ("Lumen", "流明"),
    ("Mesa", "高原"), ("Nova", "新星"), ("Onyx", "玛瑙"), ("Prism", "棱镜"), ("Quartz", "石英石"), ("Ridge", "山脊"),
)  # fmt: skip
ADJECTIVES = (
    ("classic", "经典"), ("modern", "现代"), ("vintage", "复古"), ("premium", "高级"), ("compact", "小巧"),
    ("large", "大号"), ("handmade", "手工"), ("lightweight", "轻便"), ("essential", "基础款"), ("deluxe", "豪华"),
)  # fmt: skip
NOISE = (
    ("new", "新款"), ("free shipping", "包邮"), ("gift idea", "送礼佳品"), ("best seller", "热销"), ("2024", "2024"),
    ("set of 2", "两件装"), ("limited edition", "限量版"), ("for home and travel", "居家旅行"), ("sale", "特价"),
    ("official store", "官方旗舰"), ("top quality", "优质"), ("easy to clean", "易清洁"),
)  # fmt: skip
PATTERN_WORDS = {
    "stripes": (("striped", "条纹"),),
    "checks": (("checked", "格纹"), ("plaid", "格子")),
    "dots": (("dotted", "圆点"), ("polka dot", "波点")),
}
# Words for the parts of a drawing: categories share them, as they share the parts.
PART_WORDS = {
    "ear": (("with side handle", "带侧把"),),
    "arch": (("with carry loop", "带提环"), ("easy grip", "易提")),
    "spout": (("no-drip pour", "不滴漏"),),
    "longsleeve": (("long sleeve", "长袖"),),
    "sleeve": (("half sleeve", "半袖"),),
    "torso": (("regular fit", "合身版型"),),
    "pants": (("straight leg", "直筒"),),
    "flare": (("flared shape", "喇叭形"), ("wide base", "宽底")),
    "cup": (("tapered", "收口设计"),),
    "dome": (("domed", "圆顶"),),
    "ring": (("ring detail", "圆环细节"),),
    "frame": (("open frame", "镂空框"),),
    "drop": (("drop shape", "水滴形"),),
    "tulip": (("curved body", "曲线造型"),),
    "rbox": (("rounded edges", "圆角"), ("soft grip", "软握")),
    "box": (("clean lines", "简约线条"),),
    "oval": (("round detail", "圆形细节"),),
    "line": (("slim", "纤细"), ("fine detail", "精细")),
}
ORDERS = (
    "brand line adjective pattern colour material noun part size noise",
    "brand noun line part colour material size",
    "colour material noun part brand size noise",
    "noise brand adjective colour pattern noun size line",
    "noun adjective part pattern colour brand line size",
)


def write_title(category: Category, parent: Parent, look: Look, language: str, dice: Dice) -> str:
    """A title for a product of ``category``.

    Args:
        category: what is sold; 42 % of titles name it, 20 % have a synonym, the others only a word of ``parent``.
        parent: gives materials, sizes and the vague words.
        look: the product's colours and pattern; a title that speaks of them tells the truth.
        language: "en" or "zh".
        dice: decides the rest.
    """
    tongue = LANGUAGES.index(language)

    def one(words: tuple[tuple[str, str], ...], percent: int) -> str:
        word = dice.pick(words)[tongue]
        return word if dice.chance(percent / 100) else ""

    shapes = sorted({part.split()[0].lstrip("?=") for part in category.parts.split(" | ")} & PART_WORDS.keys())
    said = {
        "brand": one(BRANDS, 85),
        "line": one(LINES, 40),
        "adjective": one(ADJECTIVES, 35),
        "pattern": one(PATTERN_WORDS.get(look.pattern, (("", ""),)), 50),
        "colour": COLOURS[look.colours[0]][tongue] if dice.chance(0.65) else "",
        "material": one(parent.materials, 50),
        "noun": _noun(category, parent, tongue, dice),
        "part": one(PART_WORDS[dice.pick(shapes)], 45) if shapes else "",
        "size": _size(parent.size, tongue, dice) if dice.chance(0.55) else "",
        "noise": one(NOISE, 35),
    }
    if said["line"] and dice.chance(0.7):
        said["line"] += f" {dice.between(1, 99) * 10}"
    words = [said[slot] for slot in dice.pick(ORDERS).split() if said[slot]]
    title = " ".join(words)
    if language == "zh":  # blanks everywhere, or only where digits or Latin letters meet
        return title if dice.chance(0.4) else re.sub(r" (?=[^\x00-\x7f])|(?<=[^\x00-\x7f]) ", "", title)
    return dice.pick((title.title(), title.title(), title, title.lower(), title.upper()))


def _noun(category: Category, parent: Parent, tongue: int, dice: Dice) -> str:
    draw = dice.between(1, 100)
    if draw <= NAMED:
        return (category.name, category.name_zh)[tongue]
    if draw <= NAMED + SYNONYM:
        return dice.pick((category.synonyms, category.synonyms_zh)[tongue])
    return dice.pick(parent.vague)[tongue]


def _size(kind: str, tongue: int, dice: Dice) -> str:
    if kind == "letter":
        return dice.pick(("XS", "S", "M", "L", "XL")) + ("", "码")[tongue]
    if kind == "eu":
        return ("EU {}", "{}码")[tongue].format(dice.between(35, 46))
    low, high, step, unit = {
        "ml": (4, 40, 25, ("ml", "毫升")),
        "litre": (1, 30, 1, ("L", "升")),
        "cm": (4, 40, 5, ("cm", "厘米")),
        "watt": (3, 30, 2, ("W", "瓦")),
        "inch": (5, 60, 1, ("inch", "英寸")),
    }[kind]
    return f"{dice.between(low, high) * step}{('', ' ')[tongue == 0]}{unit[tongue]}"
