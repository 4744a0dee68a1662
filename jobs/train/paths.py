"""Names of what a run keeps in its output folder beside the checkpoint."""

from __future__ import annotations

__all__ = ["BASE", "RECORD", "STORE", "WORK"]

WORK = "_train"
"""Folder of all that a run needs and a finished checkpoint does not."""

BASE = "base"
"""In it: config.json and tokenizer of the model that is trained."""

RECORD = "train.json"
"""In it: what the run is; there once base and store are whole."""

STORE = "tokens.arrow"
"""In it: the encoded rows of Parquet data."""
