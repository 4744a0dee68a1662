"""Options with which every provider renders."""

from __future__ import annotations

LOCAL_OPTIONS = {
    "head_ip": "10.0.0.1",
    "worker_ips": "10.0.0.2,10.0.0.3",
    "ssh_user": "ubuntu",
    "num_cpus": "64",
    "num_gpus": "8",
    "gpu_memory_gib": "79",
}

OPTIONS = {"aws": {}, "gcp": {"project_id": "a-project"}, "local": LOCAL_OPTIONS}
