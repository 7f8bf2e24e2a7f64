"""A store in AWS' parameter store, by boto3 against moto's server: real HTTP and real errors."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from proxy.state.opening import open_store
from proxy.state.ssm import MAX_BYTES
from proxy.state.store import NoValue, StoreError

ARN = "arn:aws:ssm:eu-west-1:123456789012:parameter/usernet/wg0"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in (
        ("AWS_ENDPOINT_URL", server), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_MAX_ATTEMPTS", "1"), ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("ssm", region_name="eu-west-1")
    for each in client.describe_parameters()["Parameters"]:
        client.delete_parameter(Name=each["Name"])
    return client


def test_all_of_it_is_one_secure_string(client: Any) -> None:
    store = open_store(ARN)
    with pytest.raises(NoValue):
        store.read("a")
    store.write("a", b"\0\xff")
    store.write("b", b"2")
    again = open_store(ARN)
    assert (again.read("a"), again.read("b"), again.lasts) == (b"\0\xff", b"2", True)
    (found,) = client.describe_parameters()["Parameters"]
    assert (found["Name"], found["Type"]) == ("/usernet/wg0", "SecureString")
    assert found["KeyId"] == "alias/aws/ssm"


def test_a_key_of_ones_own(client: Any) -> None:
    key = "alias/mine"
    store = open_store(f"{ARN}?kmsKey={key}")
    store.write("a", b"1")
    (found,) = client.describe_parameters()["Parameters"]
    assert found["KeyId"] == key
    assert open_store(ARN).read("a") == b"1"


def test_more_than_a_parameter_holds(client: Any) -> None:
    store = open_store(ARN)
    store.write("a", b"old")
    with pytest.raises(StoreError, match=f"do not fit into the {MAX_BYTES}"):
        store.write("a", bytes(MAX_BYTES))
    assert store.read("a") == open_store(ARN).read("a") == b"old"


def test_a_parameter_that_holds_something_else(client: Any) -> None:
    client.put_parameter(Name="/usernet/wg0", Value="hello", Type="String")
    with pytest.raises(StoreError, match="holds something else"):
        open_store(ARN)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreError, match=r"boto3 is not here; pip install 'usernet\[aws\]'"):
        open_store(ARN)


def test_a_profile_that_is_none(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match="nobody"):
        open_store(ARN)


def test_nobody_has_given_us_credentials(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(StoreError, match="give this machine a role, or set AWS_ACCESS_KEY_ID"):
        open_store(ARN)


class Refusing(BaseHTTPRequestHandler):
    """What AWS says to a role that may not."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        action = self.headers["X-Amz-Target"].partition(".")[2]
        code = "ParameterNotFound" if action == "GetParameter" else "AccessDeniedException"
        text = json.dumps({"__type": code, "message": f"User u is not authorized to perform: ssm:{action}"}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said."""


def test_a_role_that_may_not(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto lets everybody do everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        store = open_store(ARN)
        with pytest.raises(StoreError, match="the role needs ssm:PutParameter, and kms:Encrypt of the key"):
            store.write("a", b"1")
        server.shutdown()
        thread.join()


def test_nobody_answers(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="Could not connect"):
        open_store(ARN)
