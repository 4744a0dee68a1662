"""`python -m tests.integration.two_hosts cut|kill`: a host of two is lost under load.

It runs by `hosts.private` and writes what was counted as its last line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict

import ray
from ray import serve

from deployments.probes import replica_actors
from tests.integration.fault_load import Load, Outcome
from tests.integration.faulty import APP, deploy, num_under_way, until
from tests.integration.hosts import HEAD, Worker, start_ray, worker_host

FAULTS: dict[str, tuple[str, Callable[[Worker], None]]] = {
    "cut": ("cut cable to a node", Worker.cut),
    "kill": ("killed node", Worker.kill_raylet),
}
PORT = 8000


def lose(name: str) -> Outcome:
    """One replica on each host, requests on both; then the other host is lost."""
    fault, act = FAULTS[name]
    with worker_host() as worker:
        start_ray(worker)
        ray.init(address=f"{HEAD}:6379", _node_ip_address=HEAD, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        deploy(num_replicas=2, front="front")
        load = Load(f"http://127.0.0.1:{PORT}/{APP}", num_requests=12, num_tokens=120)
        asked = load.start()
        until(are_all_busy)
        act(worker)
        outcome = load.finish(fault, 1, asked)
        load.close()
    return outcome


def are_all_busy() -> bool:
    """Whether there are two replicas and each has requests."""
    under_way = [num_under_way(replica) for replica in replica_actors(APP, "DreamReplica")]
    return len(under_way) == 2 and min(under_way) >= 2


if __name__ == "__main__":
    print(json.dumps(asdict(lose(sys.argv[1]))), flush=True)
