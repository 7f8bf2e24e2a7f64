"""containerboot's variables: what they become, and what is said of those that mean nothing here."""

from __future__ import annotations

import pytest

from proxy.daemon.environment import BadVariable, forget_link, misspelt, take_over, translate

SAID: list[str] = []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"TS_SOCKS5_SERVER": ":1055"}, {"USERNET_SOCKS5_SERVER": ":1055"}),
        ({"TS_OUTBOUND_HTTP_PROXY_LISTEN": ":1055"}, {"USERNET_OUTBOUND_HTTP_PROXY_LISTEN": ":1055"}),
        ({"TS_STATE_DIR": "/state"}, {"USERNET_STATEDIR": "/state"}),
        ({"TS_SOCKET": "/tmp/s"}, {"USERNET_SOCKET": "/tmp/s"}),
        ({"TS_KUBE_SECRET": "usernet"}, {"USERNET_STATE": "kube:usernet"}),
        ({"TS_KUBE_SECRET": ""}, {}),
        ({"TS_DEBUG_ADDR_PORT": "127.0.0.1:9"}, {"USERNET_DEBUG": "127.0.0.1:9"}),
        ({"TS_USERSPACE": "true"}, {}),
        ({"TS_USERSPACE": "false"}, {"USERNET_TUN": "usernet0"}),
        ({"TS_LOCAL_ADDR_PORT": ":1"}, {}),
        ({"TS_ENABLE_METRICS": "true"}, {"USERNET_LOCAL_ADDR": "[::]:9002"}),
        ({"TS_ENABLE_HEALTH_CHECK": "1", "TS_LOCAL_ADDR_PORT": ":1"}, {"USERNET_LOCAL_ADDR": ":1"}),
        ({"PATH": "/bin"}, {}),
    ],
)
def test_what_they_become(theirs: dict[str, str], ours: dict[str, str]) -> None:
    assert translate(theirs) == (ours, [], [])


def test_ours_win_and_arguments_come_before_those_of_the_command_line() -> None:
    environ = {"TS_SOCKET": "/theirs", "USERNET_SOCKET": "/ours", "TS_TAILSCALED_EXTRA_ARGS": "--port 5 --via 'a b'"}
    assert take_over(environ, ["run", "f", "--port", "6"], SAID.append) == [
        "run", "--port", "5", "--via", "a b", "f", "--port", "6",
    ]  # fmt: skip
    assert environ["USERNET_SOCKET"] == "/ours"
    assert take_over(environ, ["status"], SAID.append) == ["status"]


def test_what_means_nothing_is_said() -> None:
    said: list[str] = []
    take_over({"TS_AUTHKEY": "tskey-secret"}, ["run"], said.append)
    assert said == ["TS_AUTHKEY is set, and means nothing here: what it does belongs to tailscale's own network"]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TS_USERSPACE": "perhaps"}, "TS_USERSPACE: 'perhaps' is neither true nor false"),
        ({"TS_TAILSCALED_EXTRA_ARGS": "'"}, "TS_TAILSCALED_EXTRA_ARGS: No closing quotation; quote it as for a shell"),
    ],
)
def test_what_is_none(environ: dict[str, str], message: str) -> None:
    with pytest.raises(BadVariable) as caught:
        translate(environ)
    assert str(caught.value) == message


@pytest.mark.parametrize("command", [["healthcheck"], ["status", "--json"]])
def test_whoever_asks_finds_the_socket(command: list[str]) -> None:
    """The image's HEALTHCHECK has the container's variables, and is told nothing else."""
    environ = {"TS_SOCKET": "/tmp/tailscaled.sock", "TS_STATE_DIR": "/state", "TS_TAILSCALED_EXTRA_ARGS": "-v"}
    assert take_over(environ, command, pytest.fail) == command
    assert environ["USERNET_SOCKET"] == "/tmp/tailscaled.sock"
    assert "USERNET_STATEDIR" not in environ
    ours = {"TS_SOCKET": "/tmp/theirs.sock", "USERNET_SOCKET": "/tmp/ours.sock"}
    take_over(ours, command, pytest.fail)
    assert ours["USERNET_SOCKET"] == "/tmp/ours.sock"


@pytest.mark.parametrize(
    ("value", "left"),
    [("tcp://10.0.0.9:1080", None), ("udp://[2001:db8::9]:1", None), ("51820", "51820"), ("tcp", "tcp")],
)
def test_the_port_of_a_service_named_usernet_is_none_of_ours(value: str, left: str | None) -> None:
    environ = {"USERNET_PORT": value}
    forget_link(environ)
    assert environ.get("USERNET_PORT") == left


def test_a_misspelt_variable_is_said() -> None:
    environ = {
        "USERNET_SOCKS5_SERVR": "x", "USERNET_DEBUG": "x", "USERNET_QUITE_ANOTHER": "x", "PATH": "x",
        "USERNET_SERVICE_PORT": "1080", "USERNET_SERVICE_HOST": "x", "USERNET_PORT_1080_TCP_PORT": "x",
        "USERNET_DEBUG_SERVICE_PORT": "x",
    }  # fmt: skip
    known = ["USERNET_SOCKS5_SERVER", "USERNET_DEBUG", "USERNET_PORT", "USERNET_SOCKET"]
    assert list(misspelt(environ, known)) == [
        "USERNET_SOCKS5_SERVR is set, and means nothing; did you mean USERNET_SOCKS5_SERVER?"
    ]
