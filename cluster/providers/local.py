"""The part of a launcher file for machines that are already there."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from cluster.errors import SpecError
from cluster.providers.base import CommaList, Options, Part, Yaml

__all__ = ["LOCAL_NODE", "MAX_GIB", "LocalOptions", "part"]

MAX_GIB = 2**30
"""More than any GPU has, and little enough to compute with."""

LOCAL_NODE = "local.cluster.node"
"""The name Ray gives to the one node type of provider local."""


class LocalOptions(Options):
    """Options of provider local; the three numbers are those of one worker machine."""

    head_ip: str
    worker_ips: CommaList
    ssh_user: str
    ssh_private_key: str | None = None
    num_cpus: int = Field(ge=1)
    num_gpus: int = Field(ge=1)
    gpu_memory_gib: float = Field(gt=0, le=MAX_GIB)


def part(options: Mapping[str, str]) -> Part:
    """A head that takes no work, and worker machines that are all alike."""
    given = LocalOptions.model_validate(options)
    if not given.worker_ips or given.head_ip in given.worker_ips:
        raise SpecError("worker_ips", given.worker_ips, "at least one machine besides the head")
    if len(set(given.worker_ips)) != len(given.worker_ips):
        raise SpecError("worker_ips", given.worker_ips, "each machine once")
    auth: dict[str, Yaml] = {"ssh_user": given.ssh_user}
    if given.ssh_private_key is not None:
        auth["ssh_private_key"] = given.ssh_private_key
    return Part(
        launcher={
            "max_workers": len(given.worker_ips),
            "provider": {
                "type": "local",
                "head_ip": given.head_ip,
                "worker_ips": list(given.worker_ips),
            },
            "auth": auth,
        },
        gpu_memory_gib={LOCAL_NODE: given.gpu_memory_gib},
        head_flags="--num-cpus=0 --num-gpus=0",
        local_node={"num_cpus": given.num_cpus, "num_gpus": given.num_gpus},
        up_environment={"RAY_UP_enable_autoscaler_v2": "0"},
        notes=[
            "Without that variable autoscaler v2 counts the head as one of the workers",
            "and starts one worker too few.",
            "`ray down` stops Ray on the head only: run `ray stop` on every worker yourself.",
        ],
    )
