"""The tables of the synthetic catalog: shapes, colours, parents, and the parts that make up each category.

A category is a drawing in a square of 0..100 (x to the right, y down), written as parts separated by ``|``:
``shape slot x0 y0 x1 y1`` stretches a shape of ``SHAPES`` over a box (x0 > x1 or y0 > y1 mirrors it) and
``line slot width x y x y ...`` draws a stroke. ``slot`` is one of the product's colours: a (main), b or c.
``?`` before a part: only some products have it. ``=`` before a part: it is drawn a second time, mirrored about
x = 50. Shapes and slots are shared on purpose: a mug and a saucepan are the same can with another handle, and no
colour belongs to a category.
"""

from __future__ import annotations

from typing import NamedTuple


class Parent(NamedTuple):
    """A group of categories: its Chinese name, department, and what titles say about its products."""

    name: str
    name_zh: str
    department: str
    materials: tuple[tuple[str, str], ...]
    size: str  # key of SIZES in synthetic_titles.py
    vague: tuple[tuple[str, str], ...]  # words that name the parent's kind of product, not the category


class Category(NamedTuple):
    """A leaf category: names, synonyms (English and Chinese) and its parts as text."""

    name: str
    name_zh: str
    parent: str
    synonyms: tuple[str, ...]
    synonyms_zh: tuple[str, ...]
    parts: str


DEPARTMENTS = {"Kitchen": "厨房", "Fashion": "服饰", "Home": "家居", "Leisure": "休闲"}

# Outlines in a box of 0..100; "~" marks a curve that is rounded off, ";" separates an outline from its hole.
# The round shapes (oval, dome, bowl, ring, arch, ear) are made in synthetic_images.py.
SHAPES = {
    "box": "0,0 100,0 100,100 0,100",
    "rbox": "~ 14,0 86,0 100,14 100,86 86,100 14,100 0,86 0,14",
    "can": "0,0 100,0 100,84 90,100 10,100 0,84",
    "cup": "0,0 100,0 82,100 18,100",
    "flare": "24,0 76,0 100,100 0,100",
    "tri": "50,0 100,100 0,100",
    "wedge": "0,0 100,100 0,100",
    "frame": "0,0 100,0 100,100 0,100; 18,18 82,18 82,82 18,82",
    "tulip": "~ 12,0 88,0 100,40 92,75 50,100 8,75 0,40",
    "drop": "~ 42,0 58,0 64,30 100,62 96,100 4,100 0,62 36,30",
    "leaf": "~ 0,100 6,40 55,0 100,0 92,55 50,94",
    "spout": "0,58 38,40 60,8 88,0 100,10 78,26 56,76 0,100",
    "beak": "0,0 100,0 100,100",
    "blade": "0,0 30,5 75,32 100,72 100,100 0,100",
    "tines": "0,0 14,0 14,50 29,50 29,0 43,0 43,50 57,50 57,0 71,0 71,50 86,50 86,0 100,0 100,62 66,100 34,100 0,62",
    "saw": "0,0 100,0 100,100 92,66 84,96 76,62 68,92 60,58 52,88 44,54 36,84 28,50 20,80 12,46 0,70",
    "jaw": "~ 22,0 36,34 64,34 78,0 100,30 88,72 62,88 62,100 38,100 38,88 12,72 0,30",
    "torso": "16,0 34,0 42,10 58,10 66,0 84,0 100,14 94,40 96,100 4,100 6,40 0,14",
    "tank": "20,0 34,0 36,24 64,24 66,0 80,0 82,32 98,48 94,100 6,100 2,48 18,32",
    "bodice": "20,0 30,0 36,30 64,30 70,0 80,0 88,40 74,100 26,100 12,40",
    "sleeve": "0,0 30,0 100,70 66,100 0,62",
    "longsleeve": "0,0 40,6 100,94 70,100 0,44",
    "pants": "6,0 94,0 100,100 62,100 50,32 38,100 0,100",
    "shoe": "~ 0,4 10,0 30,4 44,34 70,52 96,66 100,100 0,100",
    "boot": "~ 4,0 54,0 56,50 84,62 100,78 100,100 0,100 2,40",
    "pump": "0,16 14,2 34,44 66,72 96,82 100,96 64,98 34,82 14,50 10,100 4,100",
    "sock": "~ 30,0 86,0 88,50 80,84 40,100 0,96 2,72 34,56",
    "axehead": "100,28 100,72 50,76 0,100 10,50 0,0 50,24",
    "feet": "44,0 56,0 58,50 100,84 96,98 50,66 4,98 0,84 42,50",
}

# name, Chinese name, red, green, blue
COLOURS = (
    ("black", "黑色", 40, 40, 44),
    ("white", "白色", 240, 240, 236),
    ("grey", "灰色", 132, 134, 138),
    ("silver", "银色", 188, 194, 200),
    ("red", "红色", 206, 44, 48),
    ("burgundy", "酒红", 122, 30, 52),
    ("orange", "橙色", 236, 128, 40),
    ("yellow", "黄色", 244, 208, 60),
    ("olive", "橄榄绿", 116, 122, 56),
    ("green", "绿色", 56, 150, 78),
    ("teal", "青色", 34, 140, 146),
    ("sky blue", "天蓝", 120, 186, 232),
    ("blue", "蓝色", 44, 92, 190),
    ("navy", "藏青", 30, 42, 94),
    ("purple", "紫色", 122, 70, 160),
    ("pink", "粉色", 240, 150, 180),
    ("beige", "米色", 220, 200, 166),
    ("brown", "棕色", 122, 82, 52),
)

_METAL = (("steel", "不锈钢"), ("aluminium", "铝制"), ("copper", "铜制"))
_CLAY = (("ceramic", "陶瓷"), ("glass", "玻璃"), ("stoneware", "炻器"), ("plastic", "塑料"))
_CLOTH = (("cotton", "纯棉"), ("wool", "羊毛"), ("linen", "亚麻"), ("denim", "牛仔布"), ("polyester", "涤纶"))
_LEATHER = (("leather", "真皮"), ("suede", "绒面"), ("canvas", "帆布"), ("nylon", "尼龙"))
_WOOD = (("oak", "橡木"), ("pine", "松木"), ("walnut", "胡桃木"), ("metal", "金属"), ("rattan", "藤编"))
_MIXED = (("plastic", "塑料"), ("steel", "不锈钢"), ("wooden", "木质"), ("rubber", "橡胶"))

PARENTS = (
    Parent("Drinkware", "杯具", "Kitchen", _CLAY, "ml", (("drinkware", "饮具"), ("tableware", "餐具"))),
    Parent("Cookware", "锅具", "Kitchen", _METAL, "litre", (("cookware", "炊具"), ("kitchenware", "厨具"))),
    Parent("Utensils", "厨房工具", "Kitchen", _METAL, "cm", (("utensil", "厨用工具"), ("kitchenware", "厨具"))),
    Parent("Containers", "容器", "Kitchen", _CLAY, "ml", (("container", "储物容器"), ("kitchenware", "厨具"))),
    Parent("Tops", "上装", "Fashion", _CLOTH, "letter", (("top", "上衣"), ("clothing", "服装"))),
    Parent("Bottoms and Dresses", "下装与裙装", "Fashion", _CLOTH, "letter", (("clothing", "服装"), ("wear", "衣物"))),
    Parent("Footwear", "鞋类", "Fashion", _LEATHER, "eu", (("footwear", "鞋履"), ("pair", "鞋款"))),
    Parent("Bags", "箱包", "Fashion", _LEATHER, "litre", (("bag", "包袋"), ("carry-all", "收纳包"))),
    Parent("Accessories", "配饰", "Fashion", _CLOTH, "letter", (("accessory", "配件"), ("fashion item", "单品"))),
    Parent("Seating", "坐具", "Home", _WOOD, "cm", (("seat", "座具"), ("furniture", "家具"))),
    Parent("Tables and Storage", "桌柜", "Home", _WOOD, "cm", (("furniture", "家具"), ("unit", "组合家具"))),
    Parent("Lighting", "灯具", "Home", _METAL, "watt", (("light", "灯饰"), ("lighting", "照明"))),
    Parent("Decor", "装饰", "Home", _CLAY, "cm", (("decor", "摆件"), ("decoration", "装饰品"))),
    Parent("Tools", "工具", "Leisure", _MIXED, "cm", (("tool", "手动工具"), ("hardware", "五金"))),
    Parent("Garden", "园艺", "Leisure", _MIXED, "cm", (("garden gear", "园艺用品"), ("outdoor gear", "户外用品"))),
    Parent("Electronics", "电子产品", "Leisure", _MIXED, "inch", (("device", "数码设备"), ("gadget", "电子用品"))),
    Parent("Sports and Toys", "运动玩具", "Leisure", _MIXED, "cm", (("toy", "玩具"), ("sports gear", "运动用品"))),
)

# fmt: off
CATEGORIES = (
    # Drinkware
    Category(
        "mug", "马克杯", "Drinkware", ("coffee cup", "beaker"), ("咖啡杯", "水杯"),
        "ear b 66 34 92 74 | can a 20 22 68 84 | ?box c 20 44 68 56",
    ),
    Category(
        "teacup", "茶杯", "Drinkware", ("cup and saucer", "espresso cup"), ("杯碟", "浓缩咖啡杯"),
        "ear b 68 32 90 60 | bowl a 18 28 74 78 | oval c 6 74 88 86",
    ),
    Category(
        "wine glass", "红酒杯", "Drinkware", ("goblet", "stemware"), ("高脚杯", "葡萄酒杯"),
        "box b 47 48 53 88 | tulip a 30 8 70 54 | ?tulip c 32 26 68 52 | oval b 30 84 70 94",
    ),
    Category(
        "cocktail glass", "鸡尾酒杯", "Drinkware", ("martini glass", "margarita glass"), ("马天尼杯", "玛格丽特杯"),
        "box b 47 46 53 88 | tri a 16 54 84 12 | ?line c 3 44 50 70 2 | oval b 30 84 70 94",
    ),
    Category(
        "travel cup", "随行杯", "Drinkware", ("takeaway cup", "to-go cup"), ("外带杯", "咖啡随手杯"),
        "cup a 27 22 73 92 | rbox b 23 16 77 26 | cup b 31 17 69 6 | box c 33 44 67 68",
    ),
    # Cookware
    Category(
        "saucepan", "奶锅", "Cookware", ("milk pan", "sauce pot"), ("小汤锅", "单柄锅"),
        "rbox b 62 38 100 48 | can a 8 32 66 76 | dome c 8 20 66 34 | rbox b 32 13 42 22",
    ),
    Category(
        "frying pan", "平底锅", "Cookware", ("skillet", "omelette pan"), ("煎锅", "煎盘"),
        "rbox b 62 44 104 56 | oval a 2 18 66 82 | oval c 10 26 58 74",
    ),
    Category(
        "stockpot", "汤锅", "Cookware", ("soup pot", "casserole"), ("炖锅", "双耳锅"),
        "=ear b 82 42 98 62 | can a 16 36 84 88 | dome a 16 18 84 38 | rbox b 44 10 56 21",
    ),
    Category(
        "kettle", "烧水壶", "Cookware", ("water boiler", "whistling boiler"), ("热水壶", "鸣笛壶"),
        "arch b 24 6 72 64 | spout a 70 40 100 74 | dome a 16 32 80 76 | box a 16 54 80 86 | rbox b 42 27 54 36",
    ),
    Category(
        "teapot", "茶壶", "Cookware", ("tea brewer", "tea server"), ("泡茶壶", "功夫茶具"),
        "ear b 30 38 4 74 | spout a 72 36 102 76 | oval a 20 30 80 86 | dome c 36 22 64 38 | oval b 45 14 55 24",
    ),
    # Utensils
    Category(
        "fork", "叉子", "Utensils", ("four-prong server", "table tines"), ("餐叉", "西餐叉"),
        "rbox b 45 38 55 98 | tines a 36 2 64 46",
    ),
    Category(
        "spoon", "勺子", "Utensils", ("ladle", "soup server"), ("汤勺", "调羹"),
        "rbox b 45 34 55 98 | oval a 34 2 66 44 | oval c 38 8 62 40",
    ),
    Category(
        "kitchen knife", "菜刀", "Utensils", ("chef blade", "carving blade"), ("厨刀", "主厨刀"),
        "blade a 40 2 64 62 | rbox b 40 58 56 98 | ?oval c 45 68 51 74 | ?oval c 45 82 51 88",
    ),
    Category(
        "spatula", "锅铲", "Utensils", ("turner", "pancake flipper"), ("煎铲", "漏铲"),
        "rbox b 45 40 55 98 | cup a 34 40 66 2 | line c 4 43 10 43 34 | line c 4 50 10 50 34 | line c 4 57 10 57 34",
    ),
    Category(
        "whisk", "打蛋器", "Utensils", ("egg beater", "balloon beater"), ("搅拌器", "手动打蛋棒"),
        "rbox b 44 52 56 98 | ring a 30 0 70 60 | ring a 41 0 59 60 | rbox c 43 50 57 60",
    ),
    # Containers
    Category(
        "wine bottle", "酒瓶", "Containers", ("glass flask", "decanter"), ("玻璃瓶", "红酒瓶子"),
        "box a 43 4 57 40 | dome a 33 30 67 60 | can a 33 44 67 98 | box c 33 58 67 82 | box b 42 2 58 12",
    ),
    Category(
        "water bottle", "运动水瓶", "Containers", ("sports flask", "canteen"), ("随身水壶", "健身水瓶"),
        "?arch b 38 -6 62 22 | rbox a 30 22 70 98 | box b 36 8 64 26 | ?box c 30 46 70 70",
    ),
    Category(
        "storage jar", "储物罐", "Containers", ("canister", "preserve pot"), ("密封罐", "收纳罐"),
        "can a 20 28 80 92 | rbox b 22 12 78 30 | box c 32 46 68 74",
    ),
    Category(
        "spray bottle", "喷壶", "Containers", ("atomizer", "mister"), ("喷雾瓶", "喷水瓶"),
        "drop a 26 30 74 98 | box b 40 12 60 34 | box b 18 4 70 18 | line b 6 30 18 24 36 | ?box c 34 66 66 88",
    ),
    Category(
        "pitcher", "水罐", "Containers", ("jug", "carafe"), ("冷水壶", "凉水壶"),
        "ear b 68 26 96 76 | beak a 18 14 36 36 | flare a 18 14 76 92 | ?box c 24 56 70 70",
    ),
    # Tops
    Category(
        "t-shirt", "T恤", "Tops", ("tee", "crew neck tee"), ("短袖", "圆领短袖衫"),
        "=sleeve b 70 17 96 50 | torso a 24 14 76 90 | ?oval c 40 38 60 58",
    ),
    Category(
        "tank top", "背心", "Tops", ("singlet", "sleeveless top"), ("吊带衫", "无袖上衣"),
        "tank a 24 8 76 92 | ?box c 29 58 71 68",
    ),
    Category(
        "hoodie", "连帽衫", "Tops", ("hooded sweatshirt", "pullover"), ("卫衣", "套头衫"),
        "dome a 32 0 68 40 | dome c 39 8 61 36 | =longsleeve b 70 22 100 92 | torso a 26 20 74 92 | cup c 64 86 36 62",
    ),
    Category(
        "jacket", "夹克", "Tops", ("blazer", "coat"), ("外套", "西装外套"),
        "=longsleeve a 70 15 100 90 | torso a 26 12 74 92 | =wedge c 50 12 66 48 | line b 3 50 40 50 92"
        " | ?=box b 58 62 70 66",
    ),
    Category(
        "waistcoat", "马甲", "Tops", ("gilet", "bodywarmer"), ("坎肩", "西装背心"),
        "torso a 26 10 74 82 | =tri a 28 96 50 80 | tri c 34 50 66 8 | line b 3 50 48 50 84"
        " | oval b 53 56 57 60 | oval b 53 68 57 72",
    ),
    # Bottoms and Dresses
    Category(
        "trousers", "长裤", "Bottoms and Dresses", ("slacks", "chinos"), ("休闲裤", "西裤"),
        "pants a 28 6 72 98 | box b 29 4 71 12 | ?=line c 2 38 14 35 26",
    ),
    Category(
        "shorts", "短裤", "Bottoms and Dresses", ("bermudas", "swim trunks"), ("五分裤", "沙滩裤"),
        "pants a 18 22 82 80 | box b 21 18 79 28 | ?=line c 4 22 78 37 78",
    ),
    Category(
        "skirt", "半身裙", "Bottoms and Dresses", ("pleated mini", "a-line midi"), ("短裙", "百褶裙"),
        "flare a 14 20 86 88 | box b 30 14 70 24 | ?=line c 2 42 24 34 86 | ?line c 2 50 24 50 86",
    ),
    Category(
        "dress", "连衣裙", "Bottoms and Dresses", ("gown", "sundress"), ("长裙", "礼服"),
        "bodice a 30 2 70 46 | ?=sleeve b 60 2 82 30 | flare a 16 42 84 98 | ?box b 39 42 61 49",
    ),
    Category(
        "overalls", "背带裤", "Bottoms and Dresses", ("dungarees", "bib pants"), ("工装连体裤", "吊带裤"),
        "pants a 28 36 72 98 | box a 36 18 64 42 | =line b 4 40 22 36 2 | box c 42 24 58 36",
    ),
    # Footwear
    Category(
        "sneaker", "运动鞋", "Footwear", ("trainer", "running shoe"), ("跑鞋", "球鞋"),
        "shoe a 6 26 96 72 | rbox b 4 66 100 80 | line c 4 38 46 50 40 | line c 4 46 52 58 46 | ?wedge c 8 40 36 66",
    ),
    Category(
        "boot", "靴子", "Footwear", ("ankle bootie", "wellington"), ("短靴", "马丁靴"),
        "boot a 14 6 88 84 | rbox b 12 80 92 92 | box b 14 86 36 98 | ?box c 16 8 54 18",
    ),
    Category(
        "high heel", "高跟鞋", "Footwear", ("stiletto", "court shoe"), ("细跟鞋", "宴会鞋"),
        "pump a 4 18 98 84 | ?line c 4 14 34 34 36 | ?oval b 72 66 84 76",
    ),
    Category(
        "flip-flop", "人字拖", "Footwear", ("thong sandal", "beach slider"), ("沙滩拖", "夹脚拖"),
        "rbox a 30 2 70 56 | rbox a 33 40 67 98 | line b 6 50 18 33 52 | line b 6 50 18 67 52",
    ),
    Category(
        "roller skate", "旱冰鞋", "Footwear", ("quad skate", "inline roller"), ("轮滑鞋", "溜冰鞋"),
        "boot a 16 4 86 70 | box c 14 68 90 76 | oval b 16 76 36 96 | oval b 66 76 86 96 | ?line c 4 32 28 52 22",
    ),
    # Bags
    Category(
        "backpack", "双肩包", "Bags", ("rucksack", "daypack"), ("书包", "登山包"),
        "arch b 38 0 62 24 | rbox a 20 10 80 96 | rbox c 28 54 72 90 | line b 3 28 40 72 40 | =rbox b 76 46 88 80",
    ),
    Category(
        "handbag", "手提包", "Bags", ("purse", "satchel"), ("女包", "手拎包"),
        "arch b 26 6 74 80 | flare a 10 42 90 92 | cup c 18 42 82 62 | oval b 45 56 55 66",
    ),
    Category(
        "tote bag", "托特包", "Bags", ("shopper", "canvas carrier"), ("购物袋", "帆布袋"),
        "arch b 30 2 50 70 | arch b 50 2 70 70 | cup a 10 34 90 96 | ?box c 34 52 66 78",
    ),
    Category(
        "suitcase", "行李箱", "Bags", ("trolley case", "cabin luggage"), ("拉杆箱", "登机箱"),
        "frame b 36 -6 64 34 | rbox a 20 18 80 92 | line c 3 35 24 35 86 | line c 3 50 24 50 86 | line c 3 65 24 65 86"
        " | oval b 24 88 36 100 | oval b 64 88 76 100",
    ),
    # Accessories
    Category(
        "cap", "棒球帽", "Accessories", ("baseball hat", "snapback"), ("鸭舌帽", "遮阳帽"),
        "dome a 8 26 68 72 | rbox b 52 60 102 74 | oval c 34 20 42 29 | line c 2 38 28 38 70 | box c 8 66 68 72",
    ),
    Category(
        "top hat", "礼帽", "Accessories", ("fedora", "trilby"), ("绅士帽", "爵士帽"),
        "cup a 74 20 26 76 | oval a 4 66 96 84 | box c 27 58 73 70",
    ),
    Category(
        "sunglasses", "墨镜", "Accessories", ("shades", "eyewear"), ("太阳镜", "偏光镜"),
        "line b 5 30 44 70 44 | =line b 5 56 42 98 34 | =rbox a 54 34 94 72 | =rbox c 59 39 89 67",
    ),
    Category(
        "wristwatch", "手表", "Accessories", ("timepiece", "chronograph"), ("腕表", "石英表"),
        "rbox b 40 0 60 100 | oval a 24 26 76 78 | oval c 31 33 69 71 | line b 3 50 52 50 38 | line b 3 50 52 60 58",
    ),
    Category(
        "umbrella", "雨伞", "Accessories", ("parasol", "brolly"), ("遮阳伞", "晴雨伞"),
        "line b 5 50 6 50 90 | arch b 47 104 66 80 | dome a 6 10 94 84 | tri c 36 10 64 48",
    ),
    Category(
        "sock", "袜子", "Accessories", ("hosiery", "stocking"), ("长筒袜", "棉袜"),
        "sock a 14 6 78 94 | box b 34 6 72 18 | ?oval c 16 74 36 92",
    ),
    # Seating
    Category(
        "dining chair", "餐椅", "Seating", ("side chair", "kitchen chair"), ("靠背椅", "木椅"),
        "line b 6 27 4 27 96 | line b 6 73 56 73 96 | line b 5 42 56 42 84 | line b 5 84 56 86 84"
        " | box a 24 48 84 58 | ?rbox c 22 8 33 44",
    ),
    Category(
        "armchair", "扶手椅", "Seating", ("easy chair", "recliner"), ("单人沙发", "休闲椅"),
        "=box b 66 84 72 96 | rbox a 22 8 78 80 | box c 28 52 72 72 | =rbox a 68 42 90 88 | box a 26 70 74 86",
    ),
    Category(
        "sofa", "沙发", "Seating", ("couch", "loveseat"), ("长沙发", "双人沙发"),
        "=box b 80 76 86 86 | rbox a 10 28 90 76 | box c 16 50 49 64 | box c 51 50 84 64 | =rbox a 82 44 100 78"
        " | box a 14 64 86 78",
    ),
    Category(
        "stool", "凳子", "Seating", ("bar perch", "footrest"), ("吧台凳", "高脚凳"),
        "=line b 6 62 24 76 96 | line b 4 30 68 70 68 | rbox a 22 14 78 28 | ?box c 26 26 74 32",
    ),
    Category(
        "office chair", "办公椅", "Seating", ("swivel chair", "desk seat"), ("转椅", "电脑椅"),
        "box b 47 58 53 80 | feet b 20 74 80 98 | rbox a 28 2 72 48 | rbox c 22 50 78 62 | =line b 5 80 58 80 40",
    ),
    # Tables and Storage
    Category(
        "dining table", "餐桌", "Tables and Storage", ("trestle board", "kitchen table"), ("饭桌", "长桌"),
        "=box b 80 38 88 88 | box a 4 28 96 40 | ?box c 14 40 86 48",
    ),
    Category(
        "writing desk", "书桌", "Tables and Storage", ("workstation", "bureau"), ("办公桌", "写字台"),
        "box b 8 36 15 90 | box a 58 36 92 90 | box a 4 28 96 40 | box c 62 44 88 60 | box c 62 66 88 84",
    ),
    Category(
        "bookcase", "书架", "Tables and Storage", ("shelving", "book rack"), ("置物架", "书柜"),
        "frame a 20 2 80 98 | box a 24 34 76 40 | box a 24 62 76 68 | box b 31 40 37 62 | box c 38 44 44 62"
        " | box b 54 15 62 34 | ?box c 46 42 52 62 | box c 60 70 67 86",
    ),
    Category(
        "wardrobe", "衣柜", "Tables and Storage", ("armoire", "closet"), ("大衣橱", "衣橱"),
        "box a 18 4 82 94 | =box b 66 92 78 99 | line c 3 50 4 50 94 | =oval b 53 46 58 56 | box c 15 2 85 10",
    ),
    Category(
        "dresser", "斗柜", "Tables and Storage", ("chest of drawers", "sideboard"), ("五斗橱", "抽屉柜"),
        "=box b 78 80 86 94 | box a 10 22 90 84 | box c 16 30 84 44 | box c 16 48 84 62 | box c 16 66 84 80"
        " | oval b 46 34 54 40 | oval b 46 52 54 58 | oval b 46 70 54 76",
    ),
    Category(
        "bed", "双人床", "Tables and Storage", ("bedstead", "divan"), ("床架", "卧床"),
        "box b 4 20 12 90 | box b 88 46 96 90 | box a 8 58 92 78 | rbox c 14 44 38 60 | box b 8 72 92 80",
    ),
    # Lighting
    Category(
        "table lamp", "台灯", "Lighting", ("bedside lamp", "nightlight"), ("床头灯", "小夜灯"),
        "box b 47 46 53 70 | flare a 22 8 78 52 | drop b 34 60 66 94 | ?box c 24 44 76 50",
    ),
    Category(
        "floor lamp", "落地灯", "Lighting", ("standing lamp", "torchiere"), ("立灯", "客厅立式灯"),
        "box b 48 24 52 94 | flare a 32 2 68 28 | oval b 34 90 66 99 | ?oval c 47 56 53 62",
    ),
    Category(
        "pendant lamp", "吊灯", "Lighting", ("hanging lamp", "ceiling fixture"), ("餐厅吊灯", "顶灯"),
        "line b 3 50 0 50 44 | box b 43 36 57 48 | oval c 38 68 62 88 | dome a 12 44 88 80",
    ),
    Category(
        "desk lamp", "学习灯", "Lighting", ("reading lamp", "task lamp"), ("工作灯", "阅读灯"),
        "line b 5 30 88 22 48 60 24 | oval b 12 84 54 96 | flare a 86 58 54 14 | oval c 17 43 27 53"
        " | oval c 62 50 78 62",
    ),
    Category(
        "lantern", "提灯", "Lighting", ("hurricane light", "camping light"), ("马灯", "露营灯"),
        "arch b 28 0 72 50 | tri b 26 14 74 34 | box a 30 32 70 84 | drop c 42 44 58 78 | box b 24 82 76 94",
    ),
    # Decor
    Category(
        "vase", "花瓶", "Decor", ("urn", "amphora"), ("花器", "陶罐"),
        "tulip a 24 34 76 98 | cup a 62 34 38 16 | cup a 34 8 66 24 | ?box c 26 56 74 66",
    ),
    Category(
        "potted plant", "盆栽", "Decor", ("houseplant", "succulent"), ("绿植", "多肉植物"),
        "=leaf b 50 14 88 62 | leaf c 46 4 62 60 | leaf c 54 4 38 60 | cup a 30 58 70 96 | box a 26 54 74 64",
    ),
    Category(
        "picture frame", "相框", "Decor", ("photo mount", "wall art"), ("画框", "照片墙"),
        "frame a 12 8 88 92 | box c 24 20 76 80 | tri b 26 42 58 80 | tri b 46 54 76 80 | oval a 58 28 68 38",
    ),
    Category(
        "clock", "挂钟", "Decor", ("timekeeper", "alarm dial"), ("时钟", "闹钟"),
        "=line b 6 64 80 76 96 | oval a 12 12 88 88 | oval c 20 20 80 80 | line b 4 50 50 50 28 | line b 4 50 50 66 58"
        " | ?=dome b 58 -2 84 22",
    ),
    # Tools
    Category(
        "hammer", "锤子", "Tools", ("mallet", "claw driver"), ("榔头", "羊角锤"),
        "rbox b 44 16 56 98 | box a 30 8 74 28 | box a 70 4 82 32 | spout a 34 28 10 6",
    ),
    Category(
        "screwdriver", "螺丝刀", "Tools", ("nut driver", "phillips driver"), ("起子", "改锥"),
        "box a 47 2 53 60 | rbox b 38 54 62 98 | =line c 3 54 62 54 92 | ?cup c 42 60 58 52",
    ),
    Category(
        "wrench", "扳手", "Tools", ("spanner", "socket ratchet"), ("活动扳手", "梅花扳手"),
        "rbox a 43 22 57 86 | jaw a 30 0 70 36 | ring a 34 68 66 100 | ?box c 47 40 53 64",
    ),
    Category(
        "handsaw", "手锯", "Tools", ("hacksaw", "panel cutter"), ("木工锯", "锯子"),
        "saw a 32 36 104 62 | frame b 4 28 40 70",
    ),
    Category(
        "axe", "斧头", "Tools", ("hatchet", "splitting maul"), ("斧子", "劈柴斧"),
        "rbox b 44 2 56 98 | axehead a 8 4 62 42 | ?line c 4 50 84 50 96",
    ),
    # Garden
    Category(
        "watering can", "洒水壶", "Garden", ("sprinkler can", "plant waterer"), ("浇花壶", "浇水壶"),
        "arch b 24 12 64 44 | ear b 30 40 4 84 | line a 7 56 76 92 36 | oval c 84 22 104 42 | can a 20 40 66 90",
    ),
    Category(
        "shovel", "铁锹", "Garden", ("spade", "digger"), ("铲子", "锹"),
        "box b 46 10 54 66 | frame b 36 0 64 16 | tulip a 34 56 66 100",
    ),
    Category(
        "bucket", "水桶", "Garden", ("pail", "bin"), ("铁桶", "提桶"),
        "arch b 16 2 84 42 | cup a 14 36 86 94 | oval c 14 28 86 44",
    ),
    Category(
        "wheelbarrow", "手推车", "Garden", ("garden cart", "handcart"), ("独轮车", "园艺推车"),
        "line b 6 102 40 64 62 26 72 | line b 5 70 62 74 90 | cup a 20 26 86 62 | ring c 4 60 36 92"
        " | oval b 16 72 24 80",
    ),
    # Electronics
    Category(
        "smartphone", "手机", "Electronics", ("mobile", "handset"), ("智能机", "移动电话"),
        "rbox a 28 2 72 98 | box c 33 14 67 82 | oval b 46 86 54 94 | box b 44 7 56 10",
    ),
    Category(
        "laptop", "笔记本电脑", "Electronics", ("notebook computer", "ultrabook"), ("轻薄本", "游戏本"),
        "box a 20 18 80 68 | box c 25 23 75 62 | flare b 4 66 96 84 | flare a 40 74 60 82",
    ),
    Category(
        "television", "电视机", "Electronics", ("flat screen", "monitor"), ("液晶屏", "显示器"),
        "box b 46 70 54 86 | box a 4 18 96 74 | box c 9 23 91 68 | oval b 26 82 74 92",
    ),
    Category(
        "headphones", "耳机", "Electronics", ("headset", "earmuffs"), ("头戴式耳麦", "降噪耳麦"),
        "arch a 10 6 90 62 | =rbox b 74 50 96 92 | =rbox c 70 54 80 88",
    ),
    Category(
        "camera", "相机", "Electronics", ("compact shooter", "dslr"), ("单反", "数码照相机"),
        "box a 34 18 66 34 | rbox a 6 28 94 84 | oval b 30 32 74 80 | oval c 38 40 66 72 | box c 14 22 28 32",
    ),
    # Sports and Toys
    Category(
        "tennis racket", "网球拍", "Sports and Toys", ("badminton bat", "racquet"), ("羽毛球拍", "球拍"),
        "rbox b 45 56 55 100 | line c 2 38 12 38 54 | line c 2 50 6 50 58 | line c 2 62 12 62 54 | line c 2 30 24 70 24"
        " | line c 2 30 40 70 40 | ring a 24 0 76 66",
    ),
    Category(
        "bicycle", "自行车", "Sports and Toys", ("bike", "two-wheeler"), ("单车", "脚踏车"),
        "ring b 0 48 42 90 | ring b 58 48 100 90 | line a 5 21 69 38 36 70 36 48 69 21 69 | line a 5 79 69 68 26 80 22"
        " | line a 5 48 69 36 28 | rbox c 26 22 46 30",
    ),
    Category(
        "dumbbell", "哑铃", "Sports and Toys", ("free weight", "barbell"), ("杠铃", "健身铃"),
        "box b 20 46 80 54 | =rbox a 68 24 84 76 | =rbox c 82 34 94 66",
    ),
    Category(
        "toy car", "玩具车", "Sports and Toys", ("model sedan", "pull-back racer"), ("小汽车模型", "回力车"),
        "flare a 22 26 78 58 | flare c 32 32 68 50 | rbox a 2 46 98 74 | oval b 14 60 38 84 | oval b 62 60 86 84",
    ),
    Category(
        "guitar", "吉他", "Sports and Toys", ("ukulele", "six-string"), ("尤克里里", "民谣琴"),
        "box b 46 8 54 60 | box b 42 0 58 12 | oval a 32 40 68 70 | oval a 24 56 76 100 | oval c 42 60 58 76",
    ),
)
# fmt: on
