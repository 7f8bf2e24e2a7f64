"""A store in a Secret, against a double of the API server that enforces its rules: TLS, tokens, roles, patches."""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from proxy.state.kube import KubeStore
from proxy.state.store import NoValue, StoreError
from tests.support.certificates import Authority

EVERYTHING = frozenset({"get", "create", "patch"})
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch"}
PATCHES = "application/json-patch+json"


class Api:
    """What there is.  `allowed`: verbs of the role."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.allowed = EVERYTHING
        self.token = "first"
        self.asked: list[str] = []
        self.before_create: Any = None

    def answer(self, method: str, path: str, fields: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        self.asked.append(f"{method} {path}")
        if fields.get("Authorization") != f"Bearer {self.token}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        found = re.fullmatch(r"/api/v1/namespaces/ns/secrets(?:/([a-z0-9.-]+))?", path)
        if found is None:
            return 404, {"kind": "Status", "message": "the server could not find the requested resource"}
        verb = VERBS[method]
        if verb not in self.allowed:
            return 403, {
                "kind": "Status",
                "message": f'secrets is forbidden: User "u" cannot {verb} resource "secrets"',
            }
        if method == "POST":
            if self.before_create is not None:
                self.before_create()
            return self.create(fields, json.loads(body))
        name = found[1]
        if name not in self.secrets:
            return 404, {"kind": "Status", "message": f'secrets "{name}" not found'}
        if method == "PATCH":
            return self.patch(name, fields, json.loads(body))
        return 200, self.secrets[name]

    def create(self, fields: Any, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = body["metadata"]["name"]
        if name in self.secrets:
            return 409, {"kind": "Status", "message": f'secrets "{name}" already exists'}
        if (body["apiVersion"], body["kind"], fields["Content-Type"]) != ("v1", "Secret", "application/json"):
            return 415, {"message": "not that"}
        return 201, self.store(name, body)

    def patch(self, name: str, fields: Any, operations: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if fields["Content-Type"] != PATCHES:
            return 415, {"message": "the body of the request was in an unknown format"}
        if self.secrets[name].get("immutable"):
            return 422, {
                "kind": "Status",
                "message": f'Secret "{name}" is invalid: data: Forbidden: field is immutable when `immutable` is set',
            }
        changed = json.loads(json.dumps(self.secrets[name]))
        for operation in operations:  # RFC 6902 4.1: what holds the target must be there
            *parents, last = operation["path"].lstrip("/").split("/")
            holder = changed
            for parent in parents:
                if holder.get(parent) is None:
                    return 422, {"message": "the server rejected our request: path does not exist"}
                holder = holder[parent]
            if operation["op"] != "add":
                return 422, {"message": "only add"}
            holder[last] = operation["value"]
        return 200, self.store(name, changed)

    def store(self, name: str, secret: dict[str, Any]) -> dict[str, Any]:
        if not secret.get("data"):
            secret.pop("data", None)  # an empty map is not kept
        for key, value in (secret.get("data") or {}).items():
            assert re.fullmatch(r"[A-Za-z0-9._-]+", key)
            base64.b64decode(value, validate=True)
        self.secrets[name] = secret
        return secret


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "namespace").write_text("ns")
    (tmp_path / "token").write_text("first\n")
    return tmp_path


@pytest.fixture
def port(api: Api, account: Path) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            status, body = api.answer(self.command, self.path, self.headers, self.rfile.read(length))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is said."""

    authority = Authority(account)
    (account / "ca.crt").write_bytes(authority.file.read_bytes())
    chain, key = authority.issue()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def opened(port: int, account: Path) -> KubeStore:
    return KubeStore("state", "127.0.0.1", port, account)


def test_it_is_made_at_the_first_write_and_patched_then(api: Api, port: int, account: Path) -> None:
    store = opened(port, account)
    with pytest.raises(NoValue):
        store.read("wg0/a key")
    store.write("wg0/a key", b"\0\xff")
    store.write("b", b"2")
    store.write("b", b"3")
    assert api.secrets["state"]["data"] == {"wg0_a_key": "AP8=", "b": "Mw=="}
    assert [each.split()[0] for each in api.asked] == ["GET", "POST", "PATCH", "PATCH"]
    again = opened(port, account)
    assert (again.read("wg0/a key"), again.read("b"), again.lasts) == (b"\0\xff", b"3", True)


def test_an_empty_secret_that_was_made_beforehand_needs_no_create(api: Api, port: int, account: Path) -> None:
    api.allowed = frozenset({"get", "patch"})
    api.secrets["state"] = {"metadata": {"name": "state"}}
    opened(port, account).write("a", b"1")
    assert api.secrets["state"]["data"] == {"a": "MQ=="}


def test_somebody_makes_it_at_the_same_time(api: Api, port: int, account: Path) -> None:
    store = opened(port, account)
    api.before_create = lambda: api.secrets.setdefault("state", {"metadata": {"name": "state"}})
    store.write("a", b"1")
    assert api.secrets["state"]["data"] == {"a": "MQ=="}


def test_somebody_takes_it_away(api: Api, port: int, account: Path) -> None:
    store = opened(port, account)
    store.write("a", b"1")
    del api.secrets["state"]
    store.write("b", b"2")
    assert api.secrets["state"]["data"] == {"a": "MQ==", "b": "Mg=="}


@pytest.mark.parametrize("left", [{}, {"data": None}, {"data": {}}])
def test_somebody_empties_it(api: Api, port: int, account: Path, left: dict[str, Any]) -> None:
    store = opened(port, account)
    store.write("a", b"1")
    api.secrets["state"] = {"metadata": {"name": "state"}, **left}
    store.write("b", b"2")
    assert api.secrets["state"]["data"]["b"] == "Mg=="
    assert store.read("a") == b"1"


def test_one_that_may_not_be_changed(api: Api, port: int, account: Path) -> None:
    store = opened(port, account)
    store.write("a", b"1")
    api.secrets["state"]["immutable"] = True
    with pytest.raises(StoreError, match=r"kube:state: patch: .* field is immutable"):
        store.write("a", b"2")
    assert store.read("a") == b"1"


@pytest.mark.parametrize("verb", sorted(EVERYTHING))
def test_what_the_role_lacks_is_said(api: Api, port: int, account: Path, verb: str) -> None:
    api.allowed = EVERYTHING - {verb}
    if verb == "patch":
        api.secrets["state"] = {"metadata": {"name": "state"}, "data": {"x": "MQ=="}}
    with pytest.raises(StoreError, match=f"its Role needs the verb {verb} for the resource secrets") as caught:
        opened(port, account).write("a", b"1")
    remedy = "; or make the Secret state beforehand" if verb == "create" else ", resourceName state"
    assert str(caught.value).endswith(f"secrets{remedy}")


def test_the_token_is_rotated(api: Api, port: int, account: Path) -> None:
    store = opened(port, account)
    api.token = "second"
    with pytest.raises(StoreError, match="is the service account's token still valid"):
        store.write("a", b"1")
    with pytest.raises(NoValue):
        store.read("a")
    (account / "token").write_text("second")
    store.write("a", b"1")
    assert store.read("a") == b"1"


def test_a_server_that_is_not_theirs(api: Api, port: int, account: Path) -> None:
    other = account / "other"
    other.mkdir()
    (account / "ca.crt").write_bytes(Authority(other).file.read_bytes())
    with pytest.raises(StoreError, match=r"the API server does not answer: .*certificate verify failed"):
        opened(port, account)


def test_nobody_is_there_and_no_account(account: Path, tmp_path: Path) -> None:
    (account / "ca.crt").write_text("")
    with pytest.raises(StoreError, match="does not answer"):
        KubeStore("state", "127.0.0.1", 9, account)
    with pytest.raises(StoreError, match="is not there; is this a pod"):
        KubeStore("state", "127.0.0.1", 9, tmp_path / "none")


def test_outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StoreError, match="this is no pod"):
        KubeStore.in_cluster("state")
