"""Set before torch is imported: one thread a test process, and caches that the tests neither find nor leave."""

from __future__ import annotations

import os
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

_cache = tempfile.TemporaryDirectory(prefix="fewshot_prod_tests_")
os.environ["FEWSHOT_PROD_CACHE"] = _cache.name


def pytest_sessionfinish() -> None:
    """Parallel workers are ended without their exit handlers, so the folder goes here."""
    _cache.cleanup()
