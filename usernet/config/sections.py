"""Stage 3 for wireproxy's sections: values -> the proxies and forwards in front of and behind the tunnel.

Their keys are those of wireproxy's README and config.go, and a few of our own beside them.
"""

from __future__ import annotations

from usernet.config.access import make_access
from usernet.config.collector import Collector, Values, joined, single
from usernet.config.lines import Section
from usernet.config.model import Access, ClientTunnel, ProxySection, ResolveStrategy, ServerTunnel, StdioTunnel
from usernet.config.values import mask


class Sections:
    """What has been found so far; `finish` checks what concerns several of them."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.proxies: list[ProxySection] = []
        self.server_tunnels: list[ServerTunnel] = []
        self.client_tunnels: list[ClientTunnel] = []
        self.stdio_tunnel: StdioTunnel | None = None
        self.resolve: ResolveStrategy = "auto"
        self.access = Access()
        self._resolve_line = 0
        self._access: Values = {}

    def take(self, section: Section) -> None:
        if section.name in ("socks5", "http"):
            self._proxy(section)
        elif section.name in ("tcpservertunnel", "udpservertunnel"):
            self._server_tunnel(section)
        elif section.name in ("tcpclienttunnel", "udpproxytunnel"):
            self._client_tunnel(section)
        elif section.name == "stdiotunnel":
            self._stdio_tunnel(section)
        elif section.name == "resolve":
            self._resolve(section)
        elif section.name == "access":  # several add up
            self.collector.values(section, self._access)

    def finish(self) -> None:
        self._shared()
        self._addresses_once()
        self._ports_once()
        self.access = make_access(self._access, [proxy.username for proxy in self.proxies], self.collector.wrong)

    def _proxy(self, section: Section) -> None:
        collector = self.collector
        found = collector.values(section, {})
        collector.missing(found, "BindAddress", section, "write one such as 127.0.0.1:1080")
        if ("username" in found) != ("password" in found):
            title = "Socks5" if section.name == "socks5" else "http"
            collector.wrong(section.line, f"[{title}] has only one of Username and Password", "write both or neither")
        if ("certfile" in found) != ("keyfile" in found):
            collector.wrong(section.line, "[http] has only one of CertFile and KeyFile", "write both or neither")
        address = single(found, "bindaddress")
        if address is not None:
            self.proxies.append(
                ProxySection(
                    kind="socks5" if section.name == "socks5" else "http",
                    host=address[0],
                    port=address[1],
                    username=single(found, "username"),
                    password=single(found, "password"),
                    line=section.line,
                    balancers=tuple(map(mask, joined(found, "proxyprotocolfrom"))),
                    inside=single(found, "inside", False),
                    certificate=(single(found, "certfile"), single(found, "keyfile")) if "certfile" in found else None,
                )
            )

    def _client_tunnel(self, section: Section) -> None:
        found = self.collector.values(section, {})
        self.collector.missing(found, "BindAddress", section, "write one such as 127.0.0.1:8080")
        self.collector.missing(found, "Target", section, "write who answers inside the tunnel, such as 10.0.0.1:80")
        address, target = single(found, "bindaddress"), single(found, "target")
        if address is not None and target is not None:
            self.client_tunnels.append(
                ClientTunnel(
                    kind="tcp" if section.name == "tcpclienttunnel" else "udp",
                    host=address[0],
                    port=address[1],
                    target=target,
                    idle_timeout=single(found, "inactivitytimeout"),
                    header=single(found, "proxyprotocol"),
                    balancers=tuple(map(mask, joined(found, "proxyprotocolfrom"))),
                    line=section.line,
                )
            )

    def _stdio_tunnel(self, section: Section) -> None:
        found = self.collector.values(section, {})
        self.collector.missing(found, "Target", section, "write who answers inside the tunnel, such as 10.0.0.1:22")
        if self.stdio_tunnel is not None:
            self.collector.wrong(
                section.line,
                f"line {self.stdio_tunnel.line} begins a [STDIOTunnel] already, and there is one standard input",
                "take one of them out",
            )
        target = single(found, "target")
        if target is not None:
            self.stdio_tunnel = StdioTunnel(target, section.line)

    def _server_tunnel(self, section: Section) -> None:
        found = self.collector.values(section, {})
        self.collector.missing(found, "ListenPort", section, "write the port inside the tunnel, such as 8080")
        self.collector.missing(found, "Target", section, "write who answers, such as 127.0.0.1:8080")
        port, target = single(found, "listenport"), single(found, "target")
        if port is not None and target is not None:
            kind = "tcp" if section.name == "tcpservertunnel" else "udp"
            header = single(found, "proxyprotocol")
            self.server_tunnels.append(ServerTunnel(kind, port, target, section.line, header))  # type: ignore[arg-type]

    def _resolve(self, section: Section) -> None:
        if self._resolve_line:
            self.collector.wrong(
                section.line,
                f"line {self._resolve_line} begins a [Resolve] already",
                "make one section of the two",
            )
        self._resolve_line = section.line
        self.resolve = single(self.collector.values(section, {}), "resolvestrategy", "auto")

    def _ports_once(self) -> None:
        first: dict[tuple[str, int], int] = {}
        for tunnel in self.server_tunnels:
            line = first.setdefault((tunnel.kind, tunnel.listen_port), tunnel.line)
            if line != tunnel.line:
                self.collector.wrong(
                    tunnel.line,
                    f"the section of line {line} has the {tunnel.kind.upper()} ListenPort {tunnel.listen_port} already",
                    "give each a port of its own",
                )

    def _addresses_once(self) -> None:
        proxies = {("tcp", proxy.host, proxy.port): proxy.line for proxy in self.proxies if not proxy.inside}
        first: dict[tuple[str, str, int], int] = {}
        for tunnel in self.client_tunnels:
            key = (tunnel.kind, tunnel.host, tunnel.port)
            line = proxies.get(key) or first.setdefault(key, tunnel.line)
            if line != tunnel.line and tunnel.port != 0:
                self.collector.wrong(
                    tunnel.line, f"the section of line {line} has the same BindAddress", "give each a port of its own"
                )

    def _shared(self) -> None:
        """Sections of one address make one listener, which asks everybody for the same."""
        first: dict[tuple[str, int, bool], ProxySection] = {}
        for proxy in self.proxies:
            if proxy.port == 0:  # another one each time
                continue
            other = first.setdefault((proxy.host, proxy.port, proxy.inside), proxy)
            if (other.username, other.password) != (proxy.username, proxy.password):
                self.collector.wrong(
                    proxy.line,
                    f"the section of line {other.line} has the same BindAddress and other credentials",
                    "give both the same Username and Password, or a port each",
                )
            if set(other.balancers) != set(proxy.balancers):
                self.collector.wrong(
                    proxy.line,
                    f"the section of line {other.line} has the same BindAddress and another ProxyProtocolFrom",
                    "give both the same, or a port each",
                )
