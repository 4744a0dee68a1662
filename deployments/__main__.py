"""`python -m deployments model=embedded port=8010`: serves on this machine until Ctrl-C.

The same app and arguments as `serve run deployments.app:build_app`, and host and port, which
`serve run` takes from a config file only. Nothing starts before the arguments are checked, and what
goes wrong afterwards is one line too.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Annotated

import click
import ray
from pydantic import Field
from ray import serve

from deployments.app import AppArgs, AppError, build_app
from deployments.exposure import Exposed, check_exposure
from deployments.request_ids import PROXY_CALLBACK

__all__ = ["LaunchArgs", "launch"]

APP = "dream"


class LaunchArgs(AppArgs):
    """Arguments of the app, and where to listen, beyond the loopback with keys; has the docs."""

    docs: bool = True
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000


def launch(words: Sequence[str]) -> None:
    """Start Ray and the app, and say so once it answers; AppError says why it does not."""
    args = LaunchArgs.model_validate(_values(words))
    app = build_app(args)
    _check_address(args)
    os.environ.update(PROXY_CALLBACK)
    ray.init(address="local", log_to_driver=False, logging_level=logging.WARNING)
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    serve.start(http_options={"host": args.host, "port": args.port})
    try:
        serve.run(app, name=APP)
    except RuntimeError:
        raise AppError(f"model={args.model!r} does not start: {_cause()}") from None
    click.echo(f"ready: http://{_in_url(args.host)}:{args.port}; Ctrl-C stops it")


def _values(words: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise AppError(f"{word!r} is no argument: write name=value")
        values[name] = value
    return values


def _check_address(args: LaunchArgs) -> None:
    """AppError where others could call without a key, or something listens already."""
    try:
        check_exposure(args.host, args.gate)
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        socket.create_server((args.host, args.port), family=family).close()
    except Exposed as exposed:
        raise AppError(str(exposed)) from None
    except OSError as error:  # two servers on one port would not see each other
        where = f"host={args.host} port={args.port}"
        raise AppError(f"{where} cannot be used: {error.strerror}") from None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _cause() -> str:
    """The error that ended the first replica: the last line that begins with an error's name."""
    deployments = serve.status().applications[APP].deployments
    told = "\n".join(status.message for status in deployments.values())
    errors = re.findall(r"^[\w.]+: .+$", told, re.M)
    return str(errors[-1]) if errors else told


def _wait() -> None:
    """Until Ctrl-C or SIGTERM, as of systemd and docker stop; then Serve and Ray end."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    while not told.wait(3600):
        pass
    serve.shutdown()  # type: ignore[no-untyped-call]  # Serve leaves it without types
    ray.shutdown()


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def main(words: tuple[str, ...]) -> None:
    """Serve a model on this machine: model=embedded, and other name=value arguments."""
    launch(words)
    _wait()


if __name__ == "__main__":
    main()
