"""Headless Chromium, driven by its own protocol (CDP) over a WebSocket: loads a page, looks at it, and tells on it."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

# Nothing of its own that would go to a network
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-default-browser-check",
    "--remote-debugging-port=0", "--host-resolver-rules=MAP evil.example 127.0.0.1",
)  # fmt: skip


def devtools(profile: Path) -> tuple[int, str] | None:
    """Port and path of a browser's WebSocket, once it is there."""
    try:
        port, path = (profile / "DevToolsActivePort").read_text().split()
    except (OSError, ValueError):
        return None
    return int(port), path


class Tab:
    """One page.  `complaints`: of its console and of exceptions; `requests`: all URLs that it has asked for, and
    `statuses` what came of them, one after the other."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._socket = websocket
        self._count = 0
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.statuses: list[int] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @classmethod
    @contextlib.contextmanager
    def opened(cls, sock: socket.socket, path: str) -> Iterator[Tab]:
        """`sock`: connected to the browser."""
        address = "ws://{}:{}{}".format(*sock.getpeername()[:2], path)
        with connect(address, sock=sock, max_size=None, proxy=None, open_timeout=20) as websocket:
            yield cls(websocket)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=30))
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._heard(answer)

    def _heard(self, event: Mapping[str, Any]) -> None:
        method, found = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(found["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(found["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(found["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
        elif method == "Network.responseReceivedExtraInfo":  # also of what the page itself may not see
            self.statuses.append(found["statusCode"])

    def evaluate(self, expression: str) -> Any:
        """The value of some JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 30.0) -> Any:
        """Once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds:g} s for {expression}: {self.evaluate('document.body.innerText')}")
            time.sleep(0.05)
        return value

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """As on such a screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, file: Path) -> None:
        """Of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))


def first(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What it gives, once that is something."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {condition}")
        time.sleep(0.02)
    return value
