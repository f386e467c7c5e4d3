"""Accuracies episode by episode, kept beside a cell's record, for paired differences and ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_prod.storage import write_whole


def save_episode_accuracy(folder: Path | str, key: str, accuracy: np.ndarray, n_queries: int | None = None) -> Path:
    """Keep a cell's per-episode accuracies, float (n,), beside its record as ``folder/key.npz``.

    Args:
        n_queries: query products of every episode, all classes together. Given, counts are stored, one or two
            bytes an episode and exact; None (episodes differ in size) stores float16, exact to 0.00025.
    """
    path = Path(folder) / f"{key}.npz"
    if n_queries is None:
        arrays = {"accuracy": np.asarray(accuracy, np.float16)}
    else:
        correct = np.rint(np.asarray(accuracy) * n_queries)
        if np.abs(correct / n_queries - accuracy).max(initial=0) > 1e-6:
            raise ValueError(f"accuracies of {key} are no multiples of 1/{n_queries}; pass n_queries=None")
        arrays = {"correct": correct.astype(np.min_scalar_type(n_queries)), "n_queries": np.array(n_queries)}

    def write(fresh: Path) -> None:
        with fresh.open("wb") as file:  # given a name, numpy would add .npz to it
            np.savez_compressed(file, **arrays)

    write_whole(path, write)
    return path


def load_episode_accuracy(folder: Path | str, key: str) -> np.ndarray:
    """What ``save_episode_accuracy`` kept, float64 (n,)."""
    with np.load(Path(folder) / f"{key}.npz") as arrays:
        if "correct" in arrays:
            return arrays["correct"] / float(arrays["n_queries"])
        return arrays["accuracy"].astype(np.float64)
