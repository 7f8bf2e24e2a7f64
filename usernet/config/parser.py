"""A configuration file -> `Config`, or `ConfigError` with every problem there is.

Read wg(8) "CONFIGURATION FILE FORMAT" and wg-quick(8) "CONFIGURATION".  The stages:

1. lines.py: text -> sections of entries
2. here: each entry -> a value by its row in keys.py
3. here: values -> Interface, Peer, ProxySection, ServerTunnel, with what is missing
4. lint.py: what is legal and yet probably not meant
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from usernet.config import keys, lint
from usernet.config.lines import Section, read_lines, shown
from usernet.config.model import NO_RESERVED, Config, Interface, Peer, ProxySection, ServerTunnel
from usernet.config.values import BadValue, is_address, mask
from usernet.errors import ConfigError, Problem

MAX_BYTES = 16 << 20  # a peer with 130,000 allowed IPs is 2.6 MB

DerivePublic = Callable[[bytes], bytes]


def load(path: str | os.PathLike[str], *, derive_public: DerivePublic | None = None) -> Config:
    """Read and parse a file.  OSError where it cannot be read, ConfigError where it cannot be used."""
    name = os.fspath(path)
    with open(name, "rb") as file:
        data = file.read(MAX_BYTES + 1)
        mode = os.fstat(file.fileno()).st_mode
    if len(data) > MAX_BYTES:
        raise ConfigError((Problem(name, 1, "the file is longer than 16 MiB", "name a wg-quick file"),))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError((Problem(name, line, "this is not UTF-8 text", "save the file as UTF-8"),)) from None
    exposed = stat.S_ISREG(mode) and os.name == "posix" and _world_readable(name, mode)
    return parse(text, name, derive_public=derive_public, world_readable=exposed)


def _world_readable(name: str, mode: int) -> bool:
    """A private directory protects what is in it."""
    return bool(mode & os.stat(os.path.dirname(os.path.abspath(name))).st_mode & (stat.S_IROTH | stat.S_IXOTH))


def parse(
    text: str, filename: str, *, derive_public: DerivePublic | None = None, world_readable: bool = False
) -> Config:
    """Parse the text of a file.  `derive_public` (private key -> public key) lets a peer with our own key be found."""
    builder = _Builder(filename, derive_public)
    config = builder.build(read_lines(text, filename, builder.problems))
    if builder.problems or config is None:
        raise ConfigError(tuple(sorted(builder.problems, key=lambda problem: problem.line)))
    warnings = [*builder.warnings, *lint.warnings(config, filename, world_readable)]
    return replace(config, warnings=tuple(sorted(warnings, key=lambda problem: problem.line)))


# A section's values by lower-case key: (value, line); of a key that may be repeated, a list of them.
_Values = dict[str, Any]


class _Builder:
    """Collects problems while it makes the values of one file."""

    def __init__(self, filename: str, derive_public: DerivePublic | None) -> None:
        self.filename = filename
        self.derive_public = derive_public
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def wrong(self, line: int, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.filename, line, message, remedy))

    def warn(self, line: int, message: str, remedy: str) -> None:
        self.warnings.append(Problem(self.filename, line, message, remedy))

    def build(self, sections: list[Section]) -> Config | None:
        interface: _Values = {}
        interface_line = 0
        peers: list[Peer] = []
        proxies: list[ProxySection] = []
        tunnels: list[ServerTunnel] = []
        for section in sections:
            if section.name not in keys.SECTIONS:
                self.unknown_section(section)
            elif section.name == "interface":  # `wg` merges several
                interface_line = interface_line or section.line
                self.values(section, interface)
            elif section.name == "peer":
                if (peer := self.peer(section)) is not None:
                    peers.append(peer)
            elif section.name.endswith("servertunnel"):
                if (tunnel := self.server_tunnel(section)) is not None:
                    tunnels.append(tunnel)
            elif (proxy := self.proxy(section)) is not None:
                proxies.append(proxy)
        own = self.interface(interface, interface_line)
        self.duplicates(peers)
        self.shared(proxies)
        self.ports_once(tunnels)
        if own is None:
            return None
        peers = self.without_ourselves(own, peers)
        return Config(own, tuple(peers), tuple(proxies), server_tunnels=tuple(tunnels))

    # -- stage 2: entries -> values --

    def unknown_section(self, section: Section) -> None:
        if section.name == "?":
            return  # reported where it was read
        if not section.name:
            for entry in section.entries:
                remedy = keys.NOT_YET_KEYS.get(("", entry.key.lower()))
                if remedy:
                    self.wrong(entry.line, f"{entry.key} is not supported yet", remedy)
                else:
                    self.wrong(entry.line, "this line belongs to no section", "start with [Interface]")
        elif section.name in keys.NOT_YET_SECTIONS:
            title = keys.NOT_YET_SECTIONS[section.name]
            self.wrong(section.line, f"wireproxy's section [{title}] is not supported yet", "take the section out")
        else:
            meant = keys.closest(section.name, list(keys.TITLES.values()))
            remedy = (
                f"did you mean [{meant}]?"
                if meant
                else "the sections are " + ", ".join(f"[{title}]" for title in keys.TITLES.values())
            )
            self.wrong(section.line, f"there is no section {shown(section.name)}", remedy)

    def values(self, section: Section, into: _Values) -> _Values:
        """Parse a section's entries; a value that is wrong leaves a None, so that it is not reported as missing too."""
        table = keys.SECTIONS[section.name]
        for entry in section.entries:
            name = entry.key.lower()
            key = table.get(name)
            if key is None:
                self.unknown_key(section.name, entry.key, entry.line)
                continue
            value = None
            try:
                value = key.parse(entry.value)
            except BadValue as bad:
                self.wrong(entry.line, f"{key.name}: {bad.message}", bad.remedy)
            if key.not_applicable:
                self.warn(entry.line, f"{key.name} is not applicable here: {key.not_applicable}", key.remedy)
            if key.several:
                into.setdefault(name, []).append((value, entry.line))
                continue
            if name in into:
                self.warn(
                    entry.line,
                    f"{key.name} was set in line {into[name][1]} already: this one counts",
                    "keep one of them",
                )
            into[name] = (value, entry.line)
        return into

    def unknown_key(self, section: str, key: str, line: int) -> None:
        title = keys.TITLES[section]
        remedy = keys.NOT_YET_KEYS.get((section, key.lower()))
        if remedy:
            self.wrong(line, f"{key} is not supported yet", remedy)
            return
        table = keys.SECTIONS[section]
        elsewhere = [keys.TITLES[name] for name, other in keys.SECTIONS.items() if key.lower() in other]
        meant = keys.closest(key, [known.name for known in table.values()])
        if elsewhere:
            remedy = f"it belongs to [{elsewhere[0]}]"
        elif meant:
            remedy = f"did you mean {meant}?"
        else:
            remedy = "the keys are " + ", ".join(known.name for known in table.values())
        self.wrong(line, f"[{title}] has no key {shown(key)}", remedy)

    # -- stage 3: values -> what they make --

    def interface(self, found: _Values, line: int) -> Interface | None:
        if line == 0:
            self.wrong(1, "there is no [Interface] section", "write one with PrivateKey and Address")
            return None
        private_key, key_line = found.get("privatekey", (b"", line))
        if private_key is not None and not any(private_key):
            missing = "PrivateKey: the key is all zeros" if private_key else "[Interface] has no PrivateKey"
            self.wrong(key_line, missing, "make one with `usernet genkey`")
        addresses = _joined(found, "address")
        if "address" not in found or (not addresses and all(value is not None for value, _ in found["address"])):
            self.wrong(line, "[Interface] has no Address", "write the one your peer allows you, such as 10.0.0.2/32")
        if not private_key or not addresses:
            return None
        servers = _joined(found, "dns")
        return Interface(
            private_key=private_key,
            addresses=tuple(dict.fromkeys(addresses)),
            dns=tuple(dict.fromkeys(word for word in servers if is_address(word))),
            dns_search=tuple(dict.fromkeys(word for word in servers if not is_address(word))),
            mtu=found.get("mtu", (None,))[0],
            listen_port=found.get("listenport", (None,))[0] or None,
            line=line,
        )

    def peer(self, section: Section) -> Peer | None:
        found = self.values(section, {})
        public_key, key_line = found.get("publickey", (b"", section.line))
        if public_key is not None and not any(public_key):
            missing = "PublicKey: the key is all zeros" if public_key else "[Peer] has no PublicKey"
            self.wrong(key_line, missing, "write the one that `usernet pubkey` prints on the peer")
        if not public_key or not any(public_key):
            return None
        allowed = []
        for nets, line in found.get("allowedips", ()):
            for net in nets or ():
                if mask(net) != net:
                    self.warn(line, *lint.host_bits(net))
                allowed.append(mask(net))
        return Peer(
            public_key=public_key,
            preshared_key=found.get("presharedkey", (None,))[0],
            endpoint=found.get("endpoint", (None,))[0],
            allowed_ips=tuple(dict.fromkeys(allowed)),
            persistent_keepalive=found.get("persistentkeepalive", (0,))[0] or 0,
            reserved=found.get("reserved", (NO_RESERVED,))[0] or NO_RESERVED,
            line=section.line,
        )

    def proxy(self, section: Section) -> ProxySection | None:
        found = self.values(section, {})
        title = keys.TITLES[section.name]
        address = found.get("bindaddress", ((),))[0]
        if address == ():
            self.wrong(section.line, f"[{title}] has no BindAddress", "write one such as 127.0.0.1:1080")
        if ("username" in found) != ("password" in found):
            self.wrong(section.line, f"[{title}] has only one of Username and Password", "write both or neither")
        if not address:
            return None
        return ProxySection(
            kind="socks5" if section.name == "socks5" else "http",
            host=address[0],
            port=address[1],
            username=found.get("username", (None,))[0],
            password=found.get("password", (None,))[0],
            line=section.line,
        )

    def server_tunnel(self, section: Section) -> ServerTunnel | None:
        found = self.values(section, {})
        title = keys.TITLES[section.name]
        if "listenport" not in found:
            self.wrong(section.line, f"[{title}] has no ListenPort", "write the port inside the tunnel, such as 8080")
        if "target" not in found:
            self.wrong(section.line, f"[{title}] has no Target", "write who answers, such as 127.0.0.1:8080")
        port, target = found.get("listenport", (None,))[0], found.get("target", (None,))[0]
        if port is None or target is None:
            return None
        return ServerTunnel("tcp" if section.name == "tcpservertunnel" else "udp", port, target, section.line)

    def ports_once(self, tunnels: list[ServerTunnel]) -> None:
        first: dict[tuple[str, int], int] = {}
        for tunnel in tunnels:
            line = first.setdefault((tunnel.kind, tunnel.listen_port), tunnel.line)
            if line != tunnel.line:
                self.wrong(
                    tunnel.line,
                    f"the section of line {line} has the {tunnel.kind.upper()} ListenPort {tunnel.listen_port} already",
                    "give each a port of its own",
                )

    def duplicates(self, peers: list[Peer]) -> None:
        first: dict[bytes, int] = {}
        for peer in peers:
            if peer.public_key in first:
                self.wrong(
                    peer.line,
                    f"the [Peer] of line {first[peer.public_key]} has the same PublicKey",
                    "make one section of the two",
                )
            first.setdefault(peer.public_key, peer.line)

    def shared(self, proxies: list[ProxySection]) -> None:
        """Sections of one address make one listener, which asks everybody for the same."""
        first: dict[tuple[str, int], ProxySection] = {}
        for proxy in proxies:
            if proxy.port == 0:  # another one each time
                continue
            other = first.setdefault((proxy.host, proxy.port), proxy)
            if (other.username, other.password) != (proxy.username, proxy.password):
                self.wrong(
                    proxy.line,
                    f"the section of line {other.line} has the same BindAddress and other credentials",
                    "give both the same Username and Password, or a port each",
                )

    def without_ourselves(self, own: Interface, peers: list[Peer]) -> list[Peer]:
        """A peer with our own key is ignored, as the kernel does: one file may serve a whole mesh."""
        if self.derive_public is None:
            return peers
        public_key = self.derive_public(own.private_key)
        for peer in peers:
            if peer.public_key == public_key:
                self.warn(peer.line, "this [Peer] has our own key: it is ignored", "write the far side's PublicKey")
        return [peer for peer in peers if peer.public_key != public_key]


def _joined(found: _Values, name: str) -> list[Any]:
    """The values of all lines of a key that may be repeated."""
    return [item for value, _ in found.get(name, ()) for item in value or ()]
