"""Who may ask: keys, hosts, origins, and pictures that belong to a key."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from t2d_runtime.errors import OptionError
from t2d_runtime.serving.hosts import Hosts, is_loopback
from t2d_runtime.serving.keys import Keys, read_keys

from .conftest import TIMEOUT_S, Running, Serve

ONE, OTHER = "0123456789abcdef", "fedcba9876543210"


def test_a_key_is_needed_where_there_is_one(serve: Serve, photo: bytes) -> None:
    with serve(keys=(ONE, OTHER)) as running, httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer"}, {"authorization": f"Basic {ONE}"}):
            for address in ("/info", "/metrics", "/nothing", "/healthz/../info"):
                answer = client.get(address, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            assert client.post("/segment", files={"image": photo}, headers=headers).status_code == 401
        for address in ("/healthz", "/readyz", "/openapi.json", "/docs", "/", "/page.js", "/palette.js"):
            assert client.get(address).status_code == 200
        for path, methods in client.get("/openapi.json").json()["paths"].items():
            for method in methods:
                expected = 200 if path in ("/healthz", "/readyz") else 401
                assert client.request(method, path.format(image_id="0" * 32)).status_code == expected, (method, path)
        for headers in ({"x-api-key": ONE}, {"authorization": f"Bearer {OTHER}"}, {"authorization": f"bearer {ONE}"}):
            assert client.get("/info", headers=headers).status_code == 200


def test_a_picture_belongs_to_its_key(serve: Serve, photo: bytes) -> None:
    with serve(keys=(ONE, OTHER)) as running, httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        mine, others = {"x-api-key": ONE}, {"x-api-key": OTHER}
        name = client.post("/images", files={"image": photo}, headers=mine).json()["id"]
        question = {"classes": ["sky"]}
        assert client.post(f"/images/{name}/segment", json=question, headers=others).status_code == 404
        assert client.delete(f"/images/{name}", headers=others).status_code == 404
        assert client.post(f"/images/{name}/segment", json=question, headers=mine).status_code == 200


@pytest.mark.parametrize("host", ["example.org", "localhost.example.org", "192.0.2.1", "", "localhost:x", "a b"])
def test_a_foreign_host_is_refused(server: Running, host: str) -> None:
    answer = httpx.get(f"{server.url}info", headers={"host": host}, timeout=TIMEOUT_S)
    assert answer.status_code == (421 if host else 400)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]:8000"])
def test_names_of_this_machine_are_known(server: Running, host: str) -> None:
    assert httpx.get(f"{server.url}info", headers={"host": host}, timeout=TIMEOUT_S).status_code == 200


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://localhost:1", "http://127.0.0.1", "x"])
def test_a_page_of_another_site_is_refused(server: Running, origin: str, photo: bytes) -> None:
    answer = httpx.post(
        f"{server.url}segment",
        files={"image": photo},
        data={"classes": "sky"},
        headers={"origin": origin},
        timeout=TIMEOUT_S,
    )
    assert answer.status_code == 403
    assert "--allow-origin" in answer.json()["detail"]


def test_the_own_page_and_allowed_sites_may_call(serve: Serve) -> None:
    hosts = Hosts.of("127.0.0.1", ["masks.example.org"], ["https://www.example.org"])
    with serve(hosts=hosts, keys=(ONE,)) as running, httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        own = {"host": "masks.example.org", "origin": "https://masks.example.org", "x-api-key": ONE}
        assert client.get("/info", headers=own).status_code == 200
        site = {"origin": "https://www.example.org", "x-api-key": ONE}
        answer = client.get("/info", headers=site)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://www.example.org"
        assert answer.headers["access-control-expose-headers"] == "server-timing, retry-after"
        asked = {"origin": "https://www.example.org", "access-control-request-method": "POST"}
        assert client.options("/segment", headers=asked).status_code == 200
        asked["origin"] = "https://example.org"
        assert client.options("/segment", headers=asked).status_code == 400
        assert client.get("/info", headers={"origin": "https://example.org", "x-api-key": ONE}).status_code == 403


def test_hosts_of_all_addresses() -> None:
    """An address cannot be another site's name; a name can."""
    everywhere = Hosts.of("0.0.0.0", ["Masks.example.org"])
    assert everywhere.knows("192.0.2.1:8000")
    assert everywhere.knows("masks.example.org")
    assert not everywhere.knows("example.org")
    assert not Hosts.of("192.0.2.1").knows("192.0.2.2")
    assert Hosts.of("192.0.2.1").knows("192.0.2.1:8000")
    for host, expected in (("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a", False)):
        assert is_loopback(host) == expected


def test_names_and_origins_are_checked() -> None:
    for name in ("http://example.org", "example.org:80", "", "*"):
        with pytest.raises(OptionError, match="expected a host name without a port"):
            Hosts.of("127.0.0.1", [name])
    for origin in ("example.org", "https://example.org/", "*", "ftp://example.org", "https://["):
        with pytest.raises(OptionError, match="expected a scheme and a host"):
            Hosts.of("127.0.0.1", [], [origin])


def test_keys_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the two clients\n{ONE}\n\n  {OTHER}\n")
    assert read_keys(file, {}) == (ONE, OTHER)
    assert read_keys(None, {"T2D_SERVE_KEY": f" {ONE}\n"}) == (ONE,)
    assert read_keys(None, {}) == ()
    for content, message in (
        ("# none\n", "holds no key"),
        ("short\n", "a key has 5 characters"),
        ("a key with blanks in it\n", "other than letters"),
    ):
        file.write_text(content)
        with pytest.raises(OptionError, match=message):
            read_keys(file, {})
    with pytest.raises(OptionError, match="cannot read"):
        read_keys(tmp_path / "none", {})


def test_owners_differ_by_key() -> None:
    keys = Keys([ONE, OTHER])
    owners = {keys.owner(ONE.encode()), keys.owner(OTHER.encode())}
    assert len(owners) == 2
    assert None not in owners
    assert keys.owner(b"") is None
    assert keys.owner(None) is None
    assert all(keys.owner(f"{number:016}".encode()) is None for number in range(2000))
    assert Keys([""]).owner(None) is None  # no key is another thing than an empty one
    assert Keys([]).owner(None) == Keys([]).owner(b"any")


def test_each_answer_has_the_security_headers(server: Running) -> None:
    for address in ("", "docs", "info", "nothing", "segment"):
        headers = httpx.get(f"{server.url}{address}", timeout=TIMEOUT_S).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "server" not in headers
