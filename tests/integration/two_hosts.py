"""`python -m tests.integration.two_hosts FAULT`: a host of two is lost under load.

It runs by `hosts.private` and writes what was counted as its last line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import ray
from ray import serve

from deployments.probes import replica_actors
from tests.integration.fault_load import Load, Outcome
from tests.integration.faulty import APP, deploy, num_under_way, until
from tests.integration.hosts import HEAD, Worker, start_ray, worker_host

PORT = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to the other host; `has_ingress`: whether an ingress runs there too."""

    name: str
    act: Callable[[Worker], None]
    has_ingress: bool = False


FAULTS = {
    "cut": Fault(name="cut cable to a node", act=Worker.cut),
    "kill": Fault(name="killed node", act=Worker.kill_raylet),
    "cut-ingress": Fault(
        name="cut cable to a node with an ingress", act=Worker.cut, has_ingress=True
    ),
}


def lose(fault: Fault) -> Outcome:
    """One replica on each host, requests on both; then the other host is lost."""
    if fault.has_ingress:  # else the proxy would ask the ingress of its own node alone
        os.environ["RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING"] = "0"
    with worker_host() as worker:
        start_ray(worker)
        ray.init(address=f"{HEAD}:6379", _node_ip_address=HEAD, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        if fault.has_ingress:
            deploy(num_replicas=2, num_ingresses=2, is_spread=True)
        else:
            deploy(num_replicas=2, front="front", is_spread=True)
        load = Load(f"http://127.0.0.1:{PORT}/{APP}", num_requests=12, num_tokens=120)
        asked = load.start()
        until(lambda: are_all_busy("DreamReplica"))
        assert not fault.has_ingress or are_all_busy("Ingress")
        fault.act(worker)
        outcome = load.finish(fault.name, 1, asked)
        load.close()
    return outcome


def are_all_busy(deployment: str) -> bool:
    """Whether there are two of it and each has requests."""
    under_way = [num_under_way(one) for one in replica_actors(APP, deployment)]
    return len(under_way) == 2 and min(under_way) >= 2


if __name__ == "__main__":
    print(json.dumps(asdict(lose(FAULTS[sys.argv[1]]))), flush=True)
