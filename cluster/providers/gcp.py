"""The part of a launcher file that is Google Compute Engine's."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from cluster.providers.base import (
    APT_VENV,
    Machine,
    MachineCounts,
    Options,
    Part,
    Yaml,
    gpu_memory,
    worker_types,
)

__all__ = ["MACHINES", "GcpOptions", "part"]

# These machine types come with their GPUs; nothing is attached to them.
MACHINES = {
    "g2-standard-48": Machine(num_cpus=48, num_gpus=4, gpu_memory_gib=22),
    "a2-ultragpu-1g": Machine(num_cpus=12, num_gpus=1, gpu_memory_gib=79),
    "a2-ultragpu-8g": Machine(num_cpus=96, num_gpus=8, gpu_memory_gib=79),
    "a3-highgpu-8g": Machine(num_cpus=208, num_gpus=8, gpu_memory_gib=79),
}

# Ubuntu 24.04 with the NVIDIA driver and Python 3.12:
# https://cloud.google.com/deep-learning-vm/docs/images
_IMAGE = (
    "projects/deeplearning-platform-release/global/images/family/"
    "common-cu129-ubuntu-2404-nvidia-580"
)


class GcpOptions(Options):
    """Options of provider gcp."""

    project_id: str
    region: str = "us-central1"
    availability_zone: str = "us-central1-a"
    machines: MachineCounts = Field(default={"a2-ultragpu-1g": 4})
    head_machine: str = "e2-standard-8"
    image: str = _IMAGE
    disk_gb: int = 200
    ssh_user: str = "ubuntu"


def part(options: Mapping[str, str]) -> Part:
    """Head on a CPU machine, one node type per GPU machine asked for."""
    given = GcpOptions.model_validate(options)
    workers = worker_types(given.machines, MACHINES, lambda name: _worker_config(name, given))
    head: Mapping[str, Yaml] = {
        "max_workers": 0,
        "resources": {"CPU": 0, "GPU": 0},
        "node_config": _node_config(given.head_machine, given),
    }
    return Part(
        launcher={
            "max_workers": sum(given.machines.values()),
            "provider": {
                "type": "gcp",
                "region": given.region,
                "availability_zone": given.availability_zone,
                "project_id": given.project_id,
            },
            "auth": {"ssh_user": given.ssh_user},
            "available_node_types": {"head": head, **workers},
            "head_node_type": "head",
        },
        gpu_memory_gib=gpu_memory(given.machines, MACHINES),
        system_setup=[APT_VENV],
        head_setup=[
            "~/dream-env/bin/pip install google-api-python-client google-auth-httplib2 cryptography"
        ],
    )


def _node_config(machine: str, given: GcpOptions) -> Mapping[str, Yaml]:
    disk: Mapping[str, Yaml] = {
        "boot": True,
        "autoDelete": True,
        "type": "PERSISTENT",
        "initializeParams": {"diskSizeGb": given.disk_gb, "sourceImage": given.image},
    }
    return {"machineType": machine, "disks": [disk]}


def _worker_config(machine: str, given: GcpOptions) -> Mapping[str, Yaml]:
    """As every node; a machine with GPUs cannot be moved while it runs."""
    return {**_node_config(machine, given), "scheduling": {"onHostMaintenance": "TERMINATE"}}
