"""The main figures beside kept pictures of them, in tests/pictures.

After a change on purpose, look at what ``python tests/test_image_comparison.py`` draws anew, and commit it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.testing.compare import calculate_rms
from PIL import Image
from test_plots import record

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.plots import (
    accuracy_vs_adaptation_steps,
    accuracy_vs_shots,
    attention_sheet,
    confusion_matrix,
    difference_forest,
    embedding_map,
    episode_sheet,
)
from fewshot_prod.results import difference

KEPT = Path(__file__).parent / "pictures"
DPI = 80  # small files; what is compared is the layout
TOLERANCE = 8.0  # root mean square of 0 to 255; another version's text moves by fractions of a pixel

SHADES = np.linspace(0, 250, 9).astype(np.uint8)[:, None, None, None] * np.ones((1, 16, 12, 3), np.uint8)


def shots(better: float = 0.02) -> Axes:
    lines = {"nearest_centroid": 0.0, "prototypical": better, "maml": -0.03}
    cells = [
        record(0.6 + 0.1 * np.log(k) + more, ci95=0.01, method=name, n_shot=k)
        for name, more in lines.items()
        for k in (1, 2, 5, 10)
    ]
    return accuracy_vs_shots(cells)


def steps() -> Axes:
    cells = [record(0.5 + k / 20, method="maml", config={"method": {"n_adaptation_steps": k}}) for k in range(6)]
    return accuracy_vs_adaptation_steps(cells)


def forest(mean: float = 0.03) -> Axes:
    base = record(0.6, method="nearest_centroid")
    return difference_forest(
        [
            difference(record(0.7), base, mean=mean, ci95=0.01),
            difference(record(0.6, method="maml"), base, mean=-0.01, ci95=0.02),
        ]
    )


def episode() -> Axes:
    one = EpisodeBatch(
        support=torch.tensor([[0, 1]]),
        support_labels=torch.tensor([[0, 1]]),
        query=torch.tensor([[2, 3, 4, 5]]),
        query_labels=torch.tensor([[0, 0, 1, 1]]),
        n_way=2,
        classes=torch.tensor([[0, 1]]),
    )
    return episode_sheet(SHADES, one, names=["mug", "floor lamp"], predictions=[0, 1, 1, 1])


FIGURES: dict[str, Callable[[], Axes]] = {
    "accuracy_vs_shots": shots,
    "accuracy_vs_adaptation_steps": steps,
    "difference_forest": forest,
    "confusion_matrix": partial(
        confusion_matrix, [[8, 2, 0], [3, 6, 1], [0, 0, 9]], ["cup", "mug", "lamp"], parents=["ware", "ware", "light"]
    ),
    "embedding_map": partial(
        embedding_map,
        np.stack([np.arange(9.0), np.arange(9.0) ** 2 % 7], 1),
        ["mug", "lamp", "fork"] * 3,
        images=SHADES,
        thumbnails=3,
    ),
    "episode_sheet": episode,
    "attention_sheet": partial(
        attention_sheet,
        [["red", "mug", "300", "ml"], []],
        [[0.2, 0.6, 0.1, 0.1], [1.0]],
        images=SHADES[:2],
        has_image=[True, False],
        modality_weights=[[0.7, 0.3], [0.4, 0.6]],
        names=["mug", "lamp"],
    ),
}


def pixels(ax: Axes) -> np.ndarray:
    """The figure as uint8 (H, W, 3)."""
    ax.figure.set_dpi(DPI)
    ax.figure.canvas.draw()
    picture = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(ax.figure)
    return picture


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_like_the_kept_one(name):
    kept = np.asarray(Image.open(KEPT / f"{name}.png").convert("RGB"))
    found = pixels(FIGURES[name]())
    assert found.shape == kept.shape
    assert calculate_rms(kept, found) < TOLERANCE


@pytest.mark.parametrize("draw, changed", [(shots, {"better": 0.06}), (forest, {"mean": -0.03})])
def test_another_number_is_another_picture(draw, changed):
    assert calculate_rms(pixels(draw()), pixels(draw(**changed))) > TOLERANCE


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        Image.fromarray(pixels(draw())).save(KEPT / f"{name}.png", optimize=True)
