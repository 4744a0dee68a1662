"""A real nginx with the configuration that ships, and apps behind it in threads of this process."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.conftest import ROOT, free_port
from tests.integration.test_http import until

CONFIG = (ROOT / "deployments/nginx.conf").read_text()
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None, reason="there is no nginx, or no openssl"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where nginx listens, and what trusts its certificate."""

    port: int
    tls: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.tls, timeout=60)

    def connect(self) -> Connection:
        raw = socket.create_connection(("127.0.0.1", self.port))
        return Connection(self.tls.wrap_socket(raw, server_hostname="127.0.0.1"))


class Connection:
    """Bytes to the proxy and back, as no client would send them."""

    def __init__(self, wire: ssl.SSLSocket) -> None:
        self._wire = wire
        self._received = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def send(self, data: bytes) -> None:
        self._wire.settimeout(30)
        self._wire.sendall(data)

    def send_until_answered(self, piece: bytes, limit: int, pause_s: float = 0.001) -> int:
        """How many pieces went out before anything came back, `limit` at most."""
        for num_sent in range(limit):
            if self._receive(pause_s):
                return num_sent
            self.send(piece)
        return limit

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the response."""
        while b"\r\n\r\n" not in self._received:
            assert self._receive(30), "no response"
        head, _, body = self._received.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
        while len(body) < length:
            assert self._receive(30), "half a response"
            body = self._received.partition(b"\r\n\r\n")[2]
        return int(head.split()[1]), body

    def has_ended(self) -> bool:
        """Whether the proxy closes the connection without another word."""
        self._wire.settimeout(30)
        try:
            return self._wire.recv(1) == b""
        except ConnectionError:
            return True

    def _receive(self, timeout_s: float) -> bool:
        self._wire.settimeout(timeout_s)
        try:
            came = self._wire.recv(2**16)
        except TimeoutError:
            return False
        assert came, "closed without a response"
        self._received += came
        return True


def certificate(folder: Path) -> ssl.SSLContext:
    """A new certificate for 127.0.0.1 in the folder, and a context that trusts it alone."""
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return ssl.create_default_context(cafile=folder / "fullchain.pem")


def configured(folder: Path, port: int, upstream: int, changes: Mapping[str, str]) -> Path:
    """The configuration with the paths and ports of a test, and what it changes besides."""
    text = CONFIG
    places = {
        "http {": f"http {{\n{_temporary_folders(folder)}",
        "worker_processes auto": "worker_processes 1",
        "worker_rlimit_nofile 16384;": "",
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "/var/log/nginx/": f"{folder}/",
        "/etc/dream/tls/": f"{folder}/",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream};",
    }
    for old, new in {**places, **changes}.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def _temporary_folders(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"    {kind}_temp_path {folder / kind};\n" for kind in kinds)


@contextmanager
def started(
    folder: Path, upstream: int, changes: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """nginx as a child of this process, before what listens at `upstream`."""
    assert NGINX is not None
    folder.mkdir(exist_ok=True)
    proxy = Proxy(port=free_port(), tls=certificate(folder))
    path = configured(folder, proxy.port, upstream, changes or {})
    command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(path), "-g", "daemon off;"]
    with subprocess.Popen(command) as child:
        try:
            until(lambda: child.poll() is not None or _listens(proxy.port))
            assert child.poll() is None
            yield proxy
        finally:
            child.terminate()


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    """The port of an app behind uvicorn, which also stands behind Serve's proxy."""
    port = free_port()
    config = uvicorn.Config(
        app, port=port, log_config=None, access_log=False, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield port
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


class Endless:
    """An app whose answers have no end: `/full` sends all the time, `/silent` never."""

    def __init__(self) -> None:
        self.num_sent = 0
        self.num_open = 0
        self.app = Starlette(
            routes=[Route(f"/{name}", self._answer) for name in ("full", "silent")]
        )

    async def _answer(self, request: Request) -> Response:
        headers = {"x-accel-buffering": "no", "content-type": "text/event-stream"}
        if request.url.path == "/full":
            return StreamingResponse(self._chunks(), headers=headers)
        self.num_open += 1
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        self.num_open -= 1
        return Response()

    async def _chunks(self) -> AsyncIterator[bytes]:
        self.num_open += 1
        try:
            while True:
                await asyncio.sleep(0)  # so that uvicorn sees who leaves
                yield b"x" * 2**16
                self.num_sent += 2**16
        finally:
            self.num_open -= 1


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
