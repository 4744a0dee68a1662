"""The part of a launcher file that is Amazon EC2's."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from cluster.providers.base import (
    APT_VENV,
    CommaList,
    Machine,
    MachineCounts,
    Options,
    Part,
    Yaml,
    gpu_memory,
    worker_types,
)

__all__ = ["MACHINES", "AwsOptions", "part"]

MACHINES = {
    "g6e.4xlarge": Machine(num_cpus=16, num_gpus=1, gpu_memory_gib=44),
    "g6e.12xlarge": Machine(num_cpus=48, num_gpus=4, gpu_memory_gib=44),
    "p4de.24xlarge": Machine(num_cpus=96, num_gpus=8, gpu_memory_gib=79),
    "p5.4xlarge": Machine(num_cpus=16, num_gpus=1, gpu_memory_gib=79),
    "p5.48xlarge": Machine(num_cpus=192, num_gpus=8, gpu_memory_gib=79),
    "p5en.48xlarge": Machine(num_cpus=192, num_gpus=8, gpu_memory_gib=139),
}

# Ubuntu 24.04 with the NVIDIA driver and Python 3.12, the newest at each launch:
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
_IMAGE = (
    "resolve:ssm:/aws/service/deeplearning/ami/x86_64/"
    "base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
)


class AwsOptions(Options):
    """Options of provider aws."""

    region: str = "us-west-2"
    availability_zone: str = "us-west-2a,us-west-2b"
    machines: MachineCounts = Field(default={"p5.4xlarge": 4})
    head_machine: str = "m5.2xlarge"
    image: str = _IMAGE
    disk_gb: int = 200
    security_groups: CommaList = ()
    ssh_user: str = "ubuntu"


def part(options: Mapping[str, str]) -> Part:
    """Head on a CPU machine, one node type per GPU machine asked for."""
    given = AwsOptions.model_validate(options)
    workers = worker_types(given.machines, MACHINES, lambda name: _node_config(name, given))
    head: Mapping[str, Yaml] = {
        "max_workers": 0,
        "resources": {"CPU": 0, "GPU": 0},
        "node_config": _node_config(given.head_machine, given),
    }
    return Part(
        launcher={
            "max_workers": sum(given.machines.values()),
            "provider": {
                "type": "aws",
                "region": given.region,
                "availability_zone": given.availability_zone,
                "cache_stopped_nodes": False,
            },
            "auth": {"ssh_user": given.ssh_user},
            "available_node_types": {"head": head, **workers},
            "head_node_type": "head",
        },
        gpu_memory_gib=gpu_memory(given.machines, MACHINES),
        system_setup=[APT_VENV],
        head_setup=["~/dream-env/bin/pip install boto3"],
        notes=_notes(given),
    )


def _node_config(machine: str, given: AwsOptions) -> Mapping[str, Yaml]:
    disk: Mapping[str, Yaml] = {"VolumeSize": given.disk_gb, "VolumeType": "gp3"}
    config: dict[str, Yaml] = {
        "InstanceType": machine,
        "ImageId": given.image,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
    }
    if given.security_groups:
        config["SecurityGroupIds"] = list(given.security_groups)
    return config


def _notes(given: AwsOptions) -> list[str]:
    notes: list[str] = []
    if given.image.startswith("resolve:ssm:"):
        notes.append(
            "The image is looked up by parameter: the head's role, ray-autoscaler-v1, needs"
        )
        notes.append("AmazonSSMReadOnlyAccess to start workers; or render with image=ami-...")
    if not given.security_groups:
        notes.append("Ray's own security group opens port 22 to the world; security_groups=sg-...")
        notes.append("names one of yours instead.")
    return notes
