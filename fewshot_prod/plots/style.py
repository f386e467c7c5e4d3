"""What all figures share: sizes, styles that stay apart in grey, fonts for Chinese, saving."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from math import sqrt
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.text import Text

from fewshot_prod.grouping import varying
from fewshot_prod.results import Record

COLUMN_WIDTH = 3.4  # inches, one of two columns of a paper
SLIDE_WIDTH = 9.0

# Okabe and Ito's colour-blind-safe colours without yellow, which is lost on white. In grey print dash patterns and
# markers keep the lines apart; the three cycles have different lengths, so that no combination comes twice.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
SHADES = "Blues"  # of a quantity: its lightness falls steadily, so that it reads in grey too

_CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
# How matplotlib's warnings of such a character begin, one for each of them whenever it is drawn
_MISSING_CJK = r"Glyph \d+ \(\\N\{(CJK|HIRAGANA|KATAKANA|FULLWIDTH|HALFWIDTH|IDEOGRAPHIC)"
# Families with simplified Chinese, as Linux, macOS, Windows and the package mplfonts name them
CJK_FAMILIES = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "Noto Sans CJK JP")
CJK_FAMILIES += ("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB")
CJK_FAMILIES += ("Microsoft YaHei", "SimHei", "SimSun", "Arial Unicode MS")


@contextmanager
def drawn_on(ax: Axes | None, width: float, height: float | None = None, grid: str | None = None) -> Iterator[Axes]:
    """The axes to draw on: those given, as their figure is styled, or new ones styled for ``width`` inches.

    Args:
        height: inches, of the new figure; 0.72 of the width when None.
        grid: "x" or "y": draw lines across from the ticks of that axis.
    """
    family = chinese_family()
    fonts = {"font.family": [*plt.rcParams["font.family"], family]} if family else {}
    if ax is not None:
        with plt.rc_context(fonts), _missing_cjk_untold():
            yield ax
        show_chinese(ax)
        return
    scale = text_scale(width)
    sizes = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 8 * scale)
    sizes |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 7.5 * scale)
    sizes |= {"lines.linewidth": 1.2 * scale, "lines.markersize": 4.2 * scale, "axes.linewidth": 0.6 * scale}
    # Outside of the context: the first figure of a notebook switches its display on, which leaving would undo.
    figure = plt.figure(figsize=(width, height or 0.72 * width), layout="constrained")
    with plt.rc_context(sizes | fonts), _missing_cjk_untold():
        ax = figure.subplots()
        if grid:
            ax.grid(axis=grid, color="0.85", linewidth=0.4 * scale)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        yield ax
    show_chinese(ax)


@contextmanager
def _missing_cjk_untold() -> Iterator[None]:
    """Texts are measured before they have a font with Chinese; whether there is one is told afterwards."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MISSING_CJK)
        yield


def text_scale(width: float) -> float:
    """Text and lines grow with the root of the width: 8 pt in a column, 13 pt on a slide."""
    return sqrt(width / COLUMN_WIDTH)


def points(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes in points, after the figure is laid out."""
    ax.figure.draw_without_rendering()
    box = ax.get_window_extent()
    return box.width * 72 / ax.figure.dpi, box.height * 72 / ax.figure.dpi


def refuse_mixed(records: Sequence[Record], fields: Sequence[str]) -> None:
    """Raise ValueError if the records of one figure differ in one of these fields."""
    if mixed := varying(records, fields):
        values = ", ".join(sorted({str(r[mixed[0]]) for r in records}))
        raise ValueError(f"one figure shows one {mixed[0]}, not {values}: select the records to draw")


def episodes_told(records: Sequence[Record]) -> str:
    """How many episodes the records are of: "n = 10,000 episodes", or the fewest and the most that one has."""
    counts = sorted({r["n_episodes"] for r in records})
    between = " or " if len(counts) == 2 else " to "
    return "n = " + between.join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1]))) + " episodes"


def set_heading(ax: Axes, parts: Sequence[str]) -> None:
    """The title at the left, in two lines where one would be cut off at the edge of the figure."""
    title = ax.set_title(", ".join(parts), loc="left")
    points(ax)
    if len(parts) > 1 and title.get_window_extent().x1 > ax.figure.bbox.x1:
        title.set_text(", ".join(parts[:-1]) + ",\n" + parts[-1])


def show_chinese(ax: Axes) -> None:
    """Give texts with Chinese or Japanese characters a font that has them; where none is installed, warn.

    What matplotlib says of each character that it lacks, whenever such a figure is drawn, is then left out.
    """
    texts = [text for text in ax.findobj(Text) if _CJK.search(text.get_text())]
    if not texts:
        return
    family = chinese_family()
    if family is None:
        warnings.warn(
            "Chinese labels will show as boxes: no font with Chinese characters is installed. Install one: the "
            "system's package fonts-noto-cjk, or pip install mplfonts (85 MB, the extra 'fonts')",
            stacklevel=4,
        )
        warnings.filterwarnings("ignore", _MISSING_CJK)
        return
    for text in texts:
        if family not in text.get_fontfamily():
            text.set_fontfamily([*text.get_fontfamily(), family])


@cache
def chinese_family() -> str | None:
    """An installed font family with Chinese characters, or None. The package mplfonts is looked at too."""
    for family in CJK_FAMILIES:
        if any(font.name == family for font in font_manager.fontManager.ttflist):
            return family
    package = find_spec("mplfonts")
    fonts = Path(package.origin).parent / "fonts" / "NotoSansCJKsc-Regular.otf" if package else None
    if fonts is None or not fonts.is_file():
        return None
    font_manager.fontManager.addfont(fonts)
    return font_manager.FontProperties(fname=fonts).get_name()


def save_figure(ax: Axes, path: Path | str, **metadata: str) -> Path:
    """Write the figure of ``ax`` and close it.

    Args:
        path: its suffix says the format, PNG where there is none.
        metadata: texts that a PNG carries, such as what it was drawn from.
    """
    path = Path(path) if Path(path).suffix else Path(f"{path}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"metadata": metadata | {"Software": None}} if path.suffix == ".png" else {}
    ax.figure.savefig(path, dpi=300 if ax.figure.get_figwidth() < 5 else 150, **told)
    plt.close(ax.figure)
    return path
