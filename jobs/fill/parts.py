"""Names of the parts. Imports no model code: every process that writes a part loads this."""

from __future__ import annotations

from ray.data.datasource import FilenameProvider

__all__ = ["PartNames"]


class PartNames(FilenameProvider):
    """`part-{write}-{task}`: the same at a retry, another at a resume, none a prefix of another."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        """Name of the parts of one write task."""
        return f"part-{write_uuid}-{task_index:08d}.parquet"
