"""`python -m deployments model=embedded port=8010`: serves on this machine until Ctrl-C.

The same app and arguments as `serve run deployments.app:build_app`, and the port, which `serve run`
takes from a config file only. Nothing starts before the arguments are checked, and what goes wrong
afterwards is one line too.
"""

from __future__ import annotations

import logging
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

__all__ = ["LaunchArgs", "launch"]

HOST = "127.0.0.1"
APP = "dream"


class LaunchArgs(AppArgs):
    """Arguments of the app, and the port of 127.0.0.1 to listen at; with the docs, if not told."""

    docs: bool = True
    port: Annotated[int, Field(ge=1, le=65535)] = 8000


def launch(words: Sequence[str]) -> None:
    """Start Ray and the app, and say so once it answers; AppError says why it does not."""
    args = LaunchArgs.model_validate(_values(words))
    app = build_app(args)
    _check_port(args.port)
    ray.init(address="local", log_to_driver=False, logging_level=logging.WARNING)
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    serve.start(http_options={"host": HOST, "port": args.port})
    try:
        serve.run(app, name=APP)
    except RuntimeError:
        raise AppError(f"model={args.model!r} does not start: {_cause()}") from None
    click.echo(f"ready: http://{HOST}:{args.port}; Ctrl-C stops it")


def _values(words: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise AppError(f"{word!r} is no argument: write name=value")
        values[name] = value
    return values


def _check_port(port: int) -> None:
    """AppError where something listens already: two servers on one port do not see each other."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise AppError(f"port={port} cannot be used: {error.strerror}") from None


def _cause() -> str:
    """The error that ended the first replica: the last line that begins with an error's name."""
    status = serve.status().applications[APP].deployments["DreamReplica"]
    errors = re.findall(r"^[\w.]+: .+$", status.message, re.M)
    return str(errors[-1]) if errors else status.message


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
