"""Where Serve listens, and whether that needs keys."""

from __future__ import annotations

from ipaddress import ip_address

from ray.serve.config import ProxyLocation
from ray.serve.context import _get_global_client

from deployments.gate import GateConfig
from dream import DreamError

__all__ = ["Exposed", "check_exposure", "is_loopback", "serve_host"]


class Exposed(DreamError):
    """A server that others could call without a key."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"host={host} can be reached from elsewhere: give keys=FILE "
            "(python -m deployments.keys create), listen on 127.0.0.1, or accept it with "
            "insecure_no_auth=true"
        )


def check_exposure(host: str | None, gate: GateConfig) -> None:
    """Exposed where whoever reaches the machine could call. None: nothing listens."""
    is_guarded = gate.keys is not None or gate.insecure_no_auth
    if host is not None and not is_guarded and not is_loopback(host):
        raise Exposed(host)


def is_loopback(host: str) -> bool:
    """Whether an address or name to listen at can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def serve_host() -> str | None:
    """Where the proxies of the running Serve listen; None where it has none."""
    client = _get_global_client()
    assert client is not None, "a client, or an error that says that Serve does not run"
    options = client.http_config
    host: str | None = None if options.location == ProxyLocation.Disabled else options.host
    return host
