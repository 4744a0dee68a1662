"""The clouds a launcher file can be rendered for: one line each."""

from __future__ import annotations

from cluster.providers import aws, gcp, local
from cluster.providers.base import Provider

__all__ = ["PROVIDERS"]

PROVIDERS: dict[str, Provider] = {
    "aws": aws.part,
    "gcp": gcp.part,
    "local": local.part,
}
