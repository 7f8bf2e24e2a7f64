"""What a crash has left of an interface: rules, routes of a persistent one, name servers, a table of nftables."""

from __future__ import annotations

import os
import socket

from usernet.tun.applied import PROTOCOL, destination, netlink_socket
from usernet.tun.device import open_tun
from usernet.tun.firewall import remove_table
from usernet.tun.names import forget_names
from usernet.tun.wanted import priorities


def cleanup(name: str) -> list[str]:
    """Take it away; what was, in words.  Raises OSError."""
    removed = []
    with netlink_socket() as netlink:
        if index := netlink.link_lookup(ifname=name):
            try:
                os.close(open_tun(name)[0])
            except OSError as error:
                raise OSError(error.errno, f"{name} is there: whoever has it must end first") from None
            for family in (socket.AF_INET, socket.AF_INET6):
                for route in netlink.get_routes(family=family, oif=index[0]):
                    if route["proto"] == PROTOCOL:
                        net = f"{destination(route)}/{route['dst_len']}"
                        netlink.route("del", oif=index[0], family=family, dst=net, table=route.get("table"))
                        removed.append(f"the route {net}")
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            for rule in netlink.get_rules(family=family):
                priority = rule.get("priority")
                if rule.get("protocol") == PROTOCOL and priority in priorities(name):
                    netlink.rule("del", family=family, priority=priority, table=rule.get("table"))
                    removed.append(f"the IPv{version} rule {priority}")
    if remove_table(name):
        removed.append(f"the nftables table usernet-{name}")
    forget_names(name)
    return removed
