"""The table of docs/presets.md: every preset as its file has it."""

from __future__ import annotations

from benchmarks.markdown import Sections, table
from dream.presets import Preset, read_presets

__all__ = ["preset_sections"]


def preset_sections() -> Sections:
    """The table named `presets`."""
    return {"presets": _table}


def _table() -> str:
    heads = ["preset", "published as", "sampling", "source", "note"]
    return table(heads, [_row(preset) for preset in read_presets().values()])


def _row(preset: Preset) -> list[str]:
    ids = ", ".join(f"`{hub_id}`" for hub_id in preset.hub_ids)
    sampling = ", ".join(f"`{name}` {value}" for name, value in preset.sampling.items())
    # Tokens are written as <|name|>, which is no markup and no edge of a cell.
    note = (preset.note or "").replace("<|", "`<|").replace("|>", "|>`")
    return [f"`{preset.name}`", ids, sampling or "none", preset.source, note]
