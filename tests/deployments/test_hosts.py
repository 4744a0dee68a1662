"""Which names a server answers to, which web pages may call it, and where it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.exposure import Exposed, check_exposure, is_loopback
from deployments.gate import GateConfig
from tests.deployments.test_api import COMPLETION, error_of
from tests.deployments.test_gate import bearer, calling, created


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:80", "[::1]", "LOCALHOST"])
def test_without_keys_the_names_of_the_loopback_may_be_called(host):
    with calling(GateConfig()) as client:
        assert client.get("/v1/models", headers={"host": host}).status_code == 200


REBOUND = ["evil.example", "127.0.0.1.evil.example", "localhost.", "127.0.0.1:80:80", "", "::1"]
REBOUND += ["[::1]evil", "user@127.0.0.1", "0.0.0.0", "\u00e9", "127.0.0.1, evil.example"]


@pytest.mark.parametrize("host", REBOUND)
def test_without_keys_another_name_is_denied(host):
    with calling(GateConfig()) as client:
        response = client.post("/v1/completions", json=COMPLETION, headers={"host": host.encode()})

    assert error_of(response) == (403, "permission_denied", None)


def test_two_names_are_denied():
    with calling(GateConfig()) as client:
        response = client.get("/v1/models", headers=[("host", "127.0.0.1"), ("host", "127.0.0.1")])

    assert response.status_code == 403


def test_names_can_be_allowed_and_then_hold_with_keys_too(file):
    secret = bearer(created(file, "alice"))
    for config in (
        GateConfig(allowed_hosts=("dream.lan",)),
        GateConfig(allowed_hosts=("dream.lan",), keys=str(file)),
    ):
        with calling(config) as client:
            client.headers.update(secret)
            hosts = ("dream.lan:8000", "127.0.0.1", "evil.example")
            codes = [client.get("/v1/models", headers={"host": h}).status_code for h in hosts]
        assert codes == [200, 200, 403]


@pytest.mark.parametrize("config", [GateConfig(insecure_no_auth=True), None])
def test_with_keys_or_with_nobody_kept_out_any_name_will_do(config, file):
    secret = bearer(created(file, "alice"))
    with calling(config or GateConfig(keys=str(file)), "http://any.example") as client:
        assert client.get("/v1/models", headers=secret).status_code == 200


def test_web_pages_may_not_call_by_default(file):
    secret = bearer(created(file, "alice"))
    asked = {"origin": "https://page.example", "access-control-request-method": "POST"}

    with calling(GateConfig(keys=str(file))) as client:
        preflight = client.options("/v1/completions", headers=asked)
        answer = client.get("/v1/models", headers=secret | asked)

    assert preflight.status_code == 401
    for response in (preflight, answer):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_pages_of_a_listed_origin_may_call_and_no_others(file):
    secret = bearer(created(file, "alice"))
    config = GateConfig(keys=str(file), cors_origins=("https://page.example",))
    asked = {"access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "authorization,content-type,x-stainless-lang"
    with calling(config) as client:
        own, other = ({"origin": f"https://{name}.example"} for name in ("page", "evil"))
        preflights = [client.options("/v1/completions", headers=o | asked) for o in (own, other)]
        answers = [client.get("/v1/models", headers=o | secret) for o in (own, other)]
        denied = client.get("/v1/models", headers=own)

    allowed = [p.headers.get("access-control-allow-origin") for p in [*preflights, *answers]]
    assert allowed == ["https://page.example", None, "https://page.example", None]
    assert [p.status_code for p in preflights] == [200, 400]
    assert "x-stainless-lang" in preflights[0].headers["access-control-allow-headers"]
    assert "x-request-id" in answers[0].headers["access-control-expose-headers"]
    assert denied.status_code == 401
    assert denied.headers["access-control-allow-origin"] == "https://page.example"
    for response in [*preflights, *answers]:
        assert "access-control-allow-credentials" not in response.headers


LOOPBACK = ["127.0.0.1", "127.0.0.2", "::1", "localhost"]
ELSEWHERE = ["0.0.0.0", "::", "10.0.0.5", "192.168.1.2", "example.org", "localhost.evil.example"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_the_loopback_needs_no_keys(host):
    assert is_loopback(host)
    check_exposure(host, GateConfig())


@pytest.mark.parametrize("host", [*ELSEWHERE, "", "127.0.0.1.evil.example"])
def test_elsewhere_is_listened_at_with_keys_or_by_an_explicit_wish(host):
    with pytest.raises(Exposed, match="insecure_no_auth=true"):
        check_exposure(host, GateConfig(allowed_hosts=("example.org",)))

    check_exposure(host, GateConfig(keys="/keys.json"))
    check_exposure(host, GateConfig(insecure_no_auth=True))


def test_where_nothing_listens_nothing_is_needed():
    check_exposure(None, GateConfig())
