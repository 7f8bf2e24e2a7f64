"""A configuration file -> `Config`, or `ConfigError` with every problem there is.

Read wg(8) "CONFIGURATION FILE FORMAT" and wg-quick(8) "CONFIGURATION".  The stages:

1. lines.py: text -> sections of entries
2. collector.py: each entry -> a value by its row in keys.py
3. here: values -> Interface and Peer; sections.py: the rest
4. lint.py: what is legal and yet probably not meant
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from usernet.config import files, keys, lint
from usernet.config.collector import Collector, Values, expand, joined, single
from usernet.config.lines import WIREGUARD_SECTIONS, Section, read_lines, shown
from usernet.config.model import NO_RESERVED, Config, Interface, Peer
from usernet.config.sections import Sections
from usernet.config.values import BadValue, is_address, mask
from usernet.errors import ConfigError, Problem

HOOKS = ("pre_up", "post_up", "pre_down", "post_down")

DerivePublic = Callable[[bytes], bytes]


def load(
    path: str | os.PathLike[str],
    *,
    derive_public: DerivePublic | None = None,
    carry_all: bool = False,
    kernel: bool = False,
    generate: Callable[[], bytes] | None = None,
) -> Config:
    """Read and parse a file.  OSError where it cannot be read, ConfigError where it cannot be used."""
    name = os.fspath(path)
    text, exposed = files.read(name)
    return parse(
        text,
        name,
        derive_public=derive_public,
        world_readable=exposed,
        carry_all=carry_all,
        kernel=kernel,
        generate=generate,
    )


def parse(
    text: str,
    filename: str,
    *,
    derive_public: DerivePublic | None = None,
    world_readable: bool = False,
    environ: Mapping[str, str] | None = None,
    carry_all: bool = False,
    kernel: bool = False,
    generate: Callable[[], bytes] | None = None,
) -> Config:
    """Parse the text of a file.  `derive_public` (private key -> public key) lets a peer with our own key be found.

    `environ`: what values such as $NAME refer to, else this process's environment.  `carry_all`: a peer without
    AllowedIPs has every address, as wireproxy has it.  `kernel`: there may be a TUN, for Table, FwMark and commands.
    `generate`: gives the private key of `PrivateKey = generate`, always the same.
    """
    collector = Collector(filename, os.environ if environ is None else environ, kernel=kernel, generate=generate)
    builder = _Builder(collector, derive_public, world_readable, carry_all)
    config = builder.build(read_lines(text, filename, collector.problems))

    def order(problem: Problem) -> tuple[bool, int]:
        return problem.file != filename, problem.line

    if collector.problems or config is None:
        raise ConfigError(tuple(sorted(collector.problems, key=order)))
    exposed = builder.world_readable and (collector.holds_keys or lint.has_passwords(config))
    found = [*collector.warnings, *lint.warnings(config, filename, builder.wireguard_file, exposed)]
    return replace(config, warnings=tuple(sorted(found, key=order)))


class _Builder:
    """Makes the values of one file, or of two: `wireguard_file` is where [Interface] and [Peer] stand."""

    def __init__(
        self, collector: Collector, derive_public: DerivePublic | None, world_readable: bool, carry_all: bool
    ) -> None:
        self.collector = collector
        self.derive_public = derive_public
        self.wireguard_file = collector.file
        self.world_readable = world_readable  # where the keys are
        self.carry_all = carry_all
        self.unread = False  # that file is another one, and could not be read

    def build(self, sections: list[Section]) -> Config | None:
        collector, filename = self.collector, self.collector.file
        extras = Sections(collector)
        wireguard = [section for section in sections if section.name in WIREGUARD_SECTIONS]
        imported = None
        for section in sections:
            if not section.name:
                imported = self.root(section)
            elif section.name == "?" or section.name in WIREGUARD_SECTIONS:
                continue  # reported where it was read; looked at below
            elif section.name in keys.SECTIONS:
                extras.take(section)
            else:
                collector.unknown_section(section)
        extras.finish()
        if imported is not None:
            for section in wireguard:
                collector.wrong(
                    section.line,
                    f"WGConfig names another file for [{keys.TITLES[section.name]}]",
                    "take this section out, or the line with WGConfig",
                )
            wireguard = imported
        if self.unread:
            return None
        collector.file = self.wireguard_file
        own, peers = self.wireguard(wireguard)
        collector.file = filename
        if own is None:
            return None
        return Config(
            own,
            tuple(peers),
            tuple(extras.proxies),
            server_tunnels=tuple(extras.server_tunnels),
            client_tunnels=tuple(extras.client_tunnels),
            stdio_tunnel=extras.stdio_tunnel,
            resolve_strategy=extras.resolve,
            access=extras.access,
        )

    # -- WGConfig --

    def root(self, section: Section) -> list[Section] | None:
        """What stands before the first section: wireproxy's WGConfig, whose sections are returned."""
        imported = None
        for entry in section.entries:
            if entry.key.lower() != "wgconfig":
                self.collector.wrong(entry.line, "this line belongs to no section", "start with [Interface]")
                continue
            try:
                imported = self.imported(entry.line, expand(entry.value, self.collector.environ))
            except BadValue as bad:
                self.collector.wrong(entry.line, f"WGConfig: {bad.message}", bad.remedy)
                self.unread = True
        return imported

    def imported(self, line: int, path: str) -> list[Section]:
        """The sections of that file, found from the directory of this one."""
        name = os.path.join(os.path.dirname(self.collector.file), path)
        try:
            text, self.world_readable = files.read(name)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = (isinstance(error, OSError) and error.strerror) or "there can be no such file"
            raise BadValue(f"cannot read {shown(path)}: {why}", "write the path of a wg-quick file") from None
        except ConfigError as error:
            self.collector.problems += error.problems
            self.unread = True
            return []
        self.wireguard_file = name
        problems = self.collector.problems
        sections = read_lines(text, name, problems)
        self.collector.file, here = name, self.collector.file
        for section in sections:
            if section.name in (*WIREGUARD_SECTIONS, "?") or not (section.name or section.entries):
                continue
            self.collector.wrong(
                section.line or section.entries[0].line,
                "a file that WGConfig names has [Interface] and [Peer] only",
                f"move this to {os.path.basename(here)}",
            )
        self.collector.file = here
        return [section for section in sections if section.name in WIREGUARD_SECTIONS]

    # -- stage 3: values -> what they make --

    def wireguard(self, sections: list[Section]) -> tuple[Interface | None, list[Peer]]:
        interface: Values = {}
        line = 0
        peers: list[Peer] = []
        for section in sections:
            if section.name == "interface":  # `wg` merges several
                line = line or section.line
                self.collector.values(section, interface)
            elif (peer := self.peer(section)) is not None:
                peers.append(peer)
        own = self.interface(interface, line)
        self.duplicates(peers)
        if own is not None and not peers:
            self.collector.warn(
                own.line,
                "there is no [Peer]: nothing can be reached",
                "write one with PublicKey, Endpoint and AllowedIPs",
            )
        return own, peers if own is None else self.without_ourselves(own, peers)

    def interface(self, found: Values, line: int) -> Interface | None:
        wrong = self.collector.wrong
        if line == 0:
            wrong(1, "there is no [Interface] section", "write one with PrivateKey and Address")
            return None
        private_key, key_line = found.get("privatekey", (b"", line))
        if private_key is not None and not any(private_key):
            missing = "PrivateKey: the key is all zeros" if private_key else "[Interface] has no PrivateKey"
            wrong(key_line, missing, "make one with `usernet genkey`")
        addresses = joined(found, "address")
        if "address" not in found or (not addresses and all(value is not None for value, _ in found["address"])):
            empty = found["address"][-1][1] if "address" in found else line
            wrong(empty, "[Interface] has no Address", "write the one your peer allows you, such as 10.0.0.2/32")
        if "checkaliveinterval" in found and "checkalive" not in found:
            wrong(found["checkaliveinterval"][1], "CheckAliveInterval without CheckAlive", "write CheckAlive, too")
        if not private_key or not addresses:
            return None
        servers = joined(found, "dns")
        return Interface(
            private_key=private_key,
            addresses=tuple(dict.fromkeys(addresses)),
            dns=tuple(dict.fromkeys(word for word in servers if is_address(word))),
            dns_search=tuple(dict.fromkeys(word for word in servers if not is_address(word))),
            mtu=single(found, "mtu"),
            listen_port=single(found, "listenport") or None,
            check_alive=tuple(dict.fromkeys(joined(found, "checkalive"))),
            check_alive_interval=single(found, "checkaliveinterval", 5),
            inbound=tuple(dict.fromkeys(joined(found, "inbound"))),
            table=single(found, "table"),
            fwmark=single(found, "fwmark", 0),
            **{hook: tuple(joined(found, hook.replace("_", ""))) for hook in HOOKS},
            line=line,
            dns_line=found["dns"][0][1] if "dns" in found else line,
        )

    def peer(self, section: Section) -> Peer | None:
        collector = self.collector
        found = collector.values(section, {})
        public_key, key_line = found.get("publickey", (b"", section.line))
        if public_key is not None and not any(public_key):
            missing = "PublicKey: the key is all zeros" if public_key else "[Peer] has no PublicKey"
            collector.wrong(key_line, missing, "write the one that `usernet pubkey` prints on the peer")
        if not public_key or not any(public_key):
            return None
        allowed = []
        for nets, line in found.get("allowedips", ()):
            for net in nets or ():
                if mask(net) != net:
                    collector.warn(line, *lint.host_bits(net))
                allowed.append(mask(net))
        if self.carry_all and "allowedips" not in found:
            allowed = [(bytes(4), 0), (bytes(16), 0)]
        return Peer(
            public_key=public_key,
            preshared_key=single(found, "presharedkey"),
            endpoint=single(found, "endpoint"),
            allowed_ips=tuple(dict.fromkeys(allowed)),
            persistent_keepalive=single(found, "persistentkeepalive", 0),
            reserved=single(found, "reserved", NO_RESERVED),
            line=section.line,
        )

    def duplicates(self, peers: list[Peer]) -> None:
        first: dict[bytes, int] = {}
        for peer in peers:
            if peer.public_key in first:
                self.collector.wrong(
                    peer.line,
                    f"the [Peer] of line {first[peer.public_key]} has the same PublicKey",
                    "make one section of the two",
                )
            first.setdefault(peer.public_key, peer.line)

    def without_ourselves(self, own: Interface, peers: list[Peer]) -> list[Peer]:
        """A peer with our own key is ignored, as the kernel does: one file may serve a whole mesh."""
        if self.derive_public is None:
            return peers
        public_key = self.derive_public(own.private_key)
        for peer in peers:
            if peer.public_key == public_key:
                self.collector.warn(
                    peer.line, "this [Peer] has our own key: it is ignored", "write the far side's PublicKey"
                )
        return [peer for peer in peers if peer.public_key != public_key]
