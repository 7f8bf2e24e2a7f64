"""A store in a Kubernetes Secret: one field a key, by the API server, as the pod's service account.

Read the API reference of Secret (core/v1), and RFC 6902 (JSON patch).  The role needs `get` and `patch` for the one
name, and `create` where the Secret is not made beforehand.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from proxy.state.store import NoValue, StoreError

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS: Final = 30.0  # for each request
_OTHERS: Final = re.compile(r"[^A-Za-z0-9._-]")  # what a key of a Secret may not have
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class KubeStore:
    lasts = True

    def __init__(self, secret: str, host: str, port: int, account: Path = ACCOUNT) -> None:
        """Reads it.  Raises StoreError."""
        if not _NAME.fullmatch(secret):
            raise StoreError(f"--state kube:{secret}: a Secret's name is lower-case letters, digits, '-' and '.'")
        self.where = f"kube:{secret}"
        self._secret = secret
        self._server = host, port
        self._account = account
        try:
            self._namespace = (account / "namespace").read_text().strip()
        except OSError:
            raise StoreError(
                f"--state {self.where}: {account} is not there; is this a pod with automountServiceAccountToken?"
            ) from None
        self._path = f"/api/v1/namespaces/{quote(self._namespace)}/secrets"
        self._data: dict[str, str] = {}  # as the server has it: its values in base64
        self._exists = self._is_empty = False
        self._look()

    @classmethod
    def in_cluster(cls, secret: str) -> KubeStore:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise StoreError(f"--state kube:{secret}: this is no pod: KUBERNETES_SERVICE_HOST is not set; name a file")
        return cls(secret, host, int(port))

    def read(self, key: str) -> bytes:
        try:
            return base64.b64decode(self._data[_field(key)])
        except KeyError:
            raise NoValue(key) from None

    def write(self, key: str, value: bytes) -> None:
        changed = {_field(key): base64.b64encode(value).decode()}
        verb, status, body = self._put(changed)
        if status in (404, 409, 422):  # it has been taken away, made or emptied meanwhile: looked at once
            self._look()
            verb, status, body = self._put(self._data | changed)
        self._checked(status, body, verb)
        self._exists, self._is_empty = True, False
        self._data |= changed

    def _look(self) -> None:
        """Whether it is there, and what it holds."""
        status, body = self._ask("GET", f"{self._path}/{self._secret}")
        self._exists = status != 404
        if self._exists:
            found = self._checked(status, body, "get").get("data") or {}
            self._is_empty = not found
            self._data |= found

    def _put(self, data: dict[str, str]) -> tuple[str, int, dict[str, Any]]:
        """The verb that it took, the status and the answer."""
        if self._exists:
            # `add` replaces what is there
            patch: list[Any] = [{"op": "add", "path": f"/data/{key}", "value": data[key]} for key in data]
            if self._is_empty:  # RFC 6902, 4.1: what a field is put into must be there, and no empty map is kept
                patch.insert(0, {"op": "add", "path": "/data", "value": {}})
            path, media_type = f"{self._path}/{self._secret}", "application/json-patch+json"
            return "patch", *self._ask("PATCH", path, patch, media_type)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._secret, "labels": {"app.kubernetes.io/managed-by": "usernet"}},
            "data": self._data | data,
        }
        return "create", *self._ask("POST", self._path, body, "application/json")

    def _checked(self, status: int, body: dict[str, Any], verb: str) -> dict[str, Any]:
        if status in (200, 201):
            return body
        said = body.get("message") or f"status {status}"
        remedy = ""
        if status == 403:
            named = "" if verb == "create" else f", resourceName {self._secret}"  # RBAC: what is made has no name yet
            remedy = f"; its Role needs the verb {verb} for the resource secrets{named}"
            if verb == "create":
                remedy += f"; or make the Secret {self._secret} beforehand"
        elif status == 404:
            remedy = f"; is there a namespace {self._namespace}?"
        elif status == 401:
            remedy = "; is the service account's token still valid?"
        raise StoreError(f"--state {self.where}: {verb}: {said}{remedy}")

    def _ask(self, method: str, path: str, body: Any = None, media_type: str = "") -> tuple[int, dict[str, Any]]:
        """The token is read again each time: it is rotated."""
        try:
            token = (self._account / "token").read_text().strip()
            context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
            connection = http.client.HTTPSConnection(*self._server, timeout=SECONDS, context=context)
            try:
                fields = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
                if media_type:
                    fields["Content-Type"] = media_type
                connection.request(method, path, None if body is None else json.dumps(body), fields)
                answer = connection.getresponse()
                text = answer.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise StoreError(f"--state {self.where}: the API server does not answer: {error}") from None
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        return answer.status, found if isinstance(found, dict) else {}


def _field(key: str) -> str:
    return _OTHERS.sub("_", key)
