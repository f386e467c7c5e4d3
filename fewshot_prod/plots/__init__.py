"""Figures from records, histories and arrays: each function returns the Axes, and draws on one that is given.

``ax.figure`` is the figure, :func:`save_figure` writes it. All are made to be told apart in colour, by colour-blind
readers and in grey, and to be read at the width of a column (the default) and of a slide (``width=SLIDE_WIDTH``).
"""

from __future__ import annotations

from fewshot_prod.plots.attention import attention_sheet, modality_weights
from fewshot_prod.plots.categories import class_sizes, confusion_matrix, embedding_map
from fewshot_prod.plots.comparisons import accuracy_vs_seconds, difference_forest, rank_diagram
from fewshot_prod.plots.curves import accuracy_vs_adaptation_steps, accuracy_vs_shots
from fewshot_prod.plots.missing import missing_sheet
from fewshot_prod.plots.pictures import episode_sheet, product_sheet
from fewshot_prod.plots.style import COLUMN_WIDTH, SLIDE_WIDTH, save_figure
from fewshot_prod.plots.training import adaptation_curve, continued_training, training_curves, training_progress

__all__ = [
    "COLUMN_WIDTH",
    "SLIDE_WIDTH",
    "accuracy_vs_adaptation_steps",
    "accuracy_vs_seconds",
    "accuracy_vs_shots",
    "adaptation_curve",
    "attention_sheet",
    "class_sizes",
    "confusion_matrix",
    "continued_training",
    "difference_forest",
    "embedding_map",
    "episode_sheet",
    "missing_sheet",
    "modality_weights",
    "product_sheet",
    "rank_diagram",
    "save_figure",
    "training_curves",
    "training_progress",
]
