"""Set before torch is imported: one thread a test process, the CPU, and caches that the tests neither find nor leave.

Tests marked ``gpu`` train and measure on a GPU, and are skipped where there is none.
"""

from __future__ import annotations

import os
import tempfile

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["LT_ACCELERATOR"] = "cpu"  # read by Lightning Fabric
os.environ["MPLBACKEND"] = "Agg"

_cache = tempfile.TemporaryDirectory(prefix="fewshot_prod_tests_")
os.environ["FEWSHOT_PROD_CACHE"] = _cache.name


@pytest.fixture(autouse=True)
def _accelerator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        monkeypatch.delenv("LT_ACCELERATOR")


def pytest_sessionfinish() -> None:
    """Parallel workers are ended without their exit handlers, so the folder goes here."""
    _cache.cleanup()
