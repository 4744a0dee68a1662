"""Headers at Serve's own proxy, without another in front."""

from __future__ import annotations

import pytest

from deployments.header_limits import MAX_HEADER_BYTES, MAX_HEADERS

pytestmark = pytest.mark.ray

OWN = 20
"""More headers than httpx and the proxy add, of fewer bytes than 100 each."""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({f"x-{n}": "a" for n in range(MAX_HEADERS - OWN)}, 200),
        ({f"x-{n}": "a" for n in range(MAX_HEADERS)}, 413),
        ({"x-a": "a" * (MAX_HEADER_BYTES - 100 * OWN)}, 200),
        ({"x-a": "a" * MAX_HEADER_BYTES}, 413),
        ({"x-a": "a" * 20 * 2**20}, 413),
    ],
    ids=["many", "too many", "long", "too long", "20 MB"],
)
def test_long_headers_are_refused(server, headers, status):
    response = server.http.get("/v1/models", headers={"x-request-id": "my-id"} | headers)

    assert response.status_code == status
    assert response.headers.get_list("x-request-id") == ["my-id"]
    if status == 413:
        assert response.json()["error"]["code"] == "request_too_large"
        assert response.headers["x-should-retry"] == "false"
