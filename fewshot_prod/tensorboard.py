"""A training history as TensorBoard events, for those who compare runs there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fewshot_prod.errors import MissingPackage


def summary_writer() -> type[Any]:
    """The class that writes events; ask for it before a long training.

    Raises:
        MissingPackage: if the package tensorboard is not installed.
    """
    try:
        import tensorboard  # noqa: F401  fails before torch is imported, which takes seconds
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackage(
            "logging to TensorBoard needs the package tensorboard: pip install tensorboard, or leave the option out"
        ) from error
    return SummaryWriter


def log_history(history: Iterable[Mapping[str, float]], folder: Path | str) -> None:
    """Write each number of a history's rows as a scalar over the row's epoch or iteration.

    Args:
        history: as training returns it, and as it stands in a checkpoint's ``facts["history"]``.
        folder: of this run; ``tensorboard --logdir`` on a folder above it compares runs.
    """
    with summary_writer()(str(folder)) as writer:
        for row in history:
            (clock,) = {"epoch", "iteration"} & set(row)
            for name, value in row.items():
                if name != clock:
                    writer.add_scalar(name, value, int(row[clock]))
