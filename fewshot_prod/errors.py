"""Errors of no single stage that a command answers by one line, as it does CatalogError, CheckpointError and others."""

from __future__ import annotations


class UsageError(ValueError):
    """An option cannot be used here, or not with the others; the message names it, its value and the remedy."""


class MissingPackage(ImportError):
    """An optional package is not installed; the message says what needs it and how to install it."""
