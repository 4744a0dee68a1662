"""The configuration of nginx agrees with the app behind it; the real nginx is in integration/."""

from __future__ import annotations

import json
import re

import pytest
from ray.serve.config import HTTPOptions

from deployments.app import AppArgs
from deployments.chunk_stream import PAUSE_S
from deployments.errors import KINDS
from deployments.request_ids import _PLAIN
from tests.conftest import ROOT

TEXT = (ROOT / "deployments/nginx.conf").read_text()
ERRORS = re.findall(r"location (@\w+) \{\n(.*?)return (\d+) '(.*?)';", TEXT, re.S)
ARGS = AppArgs(model="embedded")


def value(name: str) -> str:
    (found,) = re.findall(rf"^ *{name} ([^;]+);", TEXT, re.M)
    return found


def seconds(name: str) -> int:
    return int(value(name).removesuffix("s"))


def test_the_numbers_are_those_of_the_app():
    assert int(value("client_max_body_size")) == ARGS.max_body_bytes
    assert f"at most {ARGS.max_body_bytes} bytes" in TEXT
    assert seconds("client_body_timeout") > ARGS.body_timeout_s
    assert seconds("proxy_send_timeout") > ARGS.body_timeout_s
    assert seconds("proxy_read_timeout") > max(ARGS.timeout_s, PAUSE_S)


def test_nginx_closes_idle_connections_before_serve_does():
    idle = re.findall(r"^ *keepalive_timeout (\d+)s;", TEXT, re.M)

    assert len(idle) == 2
    assert max(map(int, idle)) < HTTPOptions().keep_alive_timeout_s


def test_an_id_is_plain_for_both_or_for_neither():
    assert f'"~^{_PLAIN.pattern.decode()}$" $http_x_request_id;' in TEXT


def test_every_error_page_has_its_location():
    named = re.findall(r"^ *error_page .*(@\w+);", TEXT, re.M)

    assert sorted(named) == sorted(name for name, *_ in ERRORS)


@pytest.mark.parametrize(("head", "status", "body"), [error[1:] for error in ERRORS])
def test_an_error_of_nginx_is_one_of_ours(head, status, body):
    error = json.loads(body)["error"]
    kind = KINDS[error["code"]]

    assert set(error) == {"message", "type", "param", "code"}
    assert (int(status), error["type"]) == (kind.status, kind.type)
    assert f"add_header x-should-retry {str(kind.can_retry).lower()} always;" in head
    assert "add_header x-request-id $one_request_id always;" in head
    assert ("retry-after" in head) is (kind.status in (429, 503))
