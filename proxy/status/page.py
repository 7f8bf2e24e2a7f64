"""The web page that shows at a glance whether the tunnel works: a Status and a History -> HTML.

`page` is the whole of it, `live` what page.js fetches anew each second: sections with an `id`, that replace those of
the same one.  All that comes from elsewhere (names, users, destinations, messages) goes through `fill`, which escapes
it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proxy.status.charts import chart
from proxy.status.history import Point
from proxy.status.markup import Markup, fill, join, number
from proxy.status.snapshot import Complaint, PeerStatus, Status, StreamStatus
from proxy.status.verdict import judge, peer_state
from proxy.status.wording import ago, amount, rate

HTML: Final = "text/html; charset=utf-8"
ASSETS: Final = {"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8"}
PEERS: Final = 100  # of them all
COMPLAINTS: Final = 12  # of those that are kept
NETWORKS: Final = 6  # of a peer's allowed IPs

# One stroke each, in a box of 24
_SIGNS: Final = {
    "up": "M5 12.5l4.5 4.5L19 7.5",
    "partly": "M12 6v7.5M12 17.4v.1",
    "connecting": "M12 7v5l3.5 2",
    "idle": "M9.5 8v8M14.5 8v8",
    "waiting": "M12 7v5l3.5 2",
    "down": "M7.5 7.5l9 9M16.5 7.5l-9 9",
    "stopping": "M8 8h8v8H8z",
}
_WORDS: Final = {
    "up": "works",
    "silent": "does not answer",
    "connecting": "connecting",
    "idle": "at rest",
    "waiting": "has to speak first",
}


def asset(path: str) -> bytes:
    return Path(__file__).with_name(path.lstrip("/")).read_bytes()


def icon(state: str) -> bytes:
    """The page's own, by the state of the tunnel: a tab tells it, too."""
    colour = {"up": "#1a9e57", "idle": "#1a9e57", "down": "#d43c3c"}.get(state, "#d98a00")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="11" fill="{colour}"/>'
        f'<path d="{_SIGNS.get(state, _SIGNS["waiting"])}" fill="none" stroke="#fff" stroke-width="2.4" '
        'stroke-linecap="round" stroke-linejoin="round"/></svg>'
    ).encode()


def page(status: Status, points: Sequence[Point], now: float) -> bytes:
    """`now`: of the clock of the points."""
    verdict = judge(status)
    return fill(
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8"><title>{title} · {name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'
        '<link rel="icon" id="icon" href="/icon.svg?state={state}">'
        '<link rel="stylesheet" href="/page.css"><script src="/page.js" defer></script></head><body>'
        '<p id="lost" role="alert" hidden>The daemon does not answer any more; what you see is from before.</p>'
        "<main>{live}{use}</main>{footer}</body></html>\n",
        title=verdict.title, name=status.name, state=verdict.state, live=live(status, points, now), use=_use(status),
        footer=_footer(status),
    ).encode()  # fmt: skip


def live(status: Status, points: Sequence[Point], now: float) -> Markup:
    return join(
        (_verdict(status), _rates(status, points, now), _troubles(status), _peers(status), _streams(status),
         _recent(status))
    )  # fmt: skip


def _verdict(status: Status) -> Markup:
    verdict = judge(status)
    return fill(
        '<header id="verdict" class="{state}" data-title="{title} · {name}" data-state="{state}">'
        '<svg class="sign" viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="11"/><path d="{sign}"/>'
        "</svg>"
        '<div><p class="name">{name}</p><h1>{title}</h1><p class="detail">{detail}</p></div></header>',
        state=verdict.state, title=verdict.title, detail=verdict.detail, name=status.name, sign=_SIGNS[verdict.state],
    )  # fmt: skip


def _rates(status: Status, points: Sequence[Point], now: float) -> Markup:
    rx, tx = sum(peer.rx_bytes for peer in status.peers), sum(peer.tx_bytes for peer in status.peers)
    return fill(
        '<section id="rates"><h2 class="unseen">What it carries</h2>{down}{up}{facts}</section>',
        down=_rate("down", "Received", status.rx_rate, rx, [(point.at, point.rx_rate) for point in points], now),
        up=_rate("up", "Sent", status.tx_rate, tx, [(point.at, point.tx_rate) for point in points], now),
        facts=_facts(status),
    )


def _rate(
    kind: str, name: str, present: float, total: int, points: Sequence[tuple[float, float]], now: float
) -> Markup:
    return fill(
        '<figure class="{kind}"><figcaption><span>{name}</span><b>{present}</b><small>{total} in all</small>'
        "</figcaption>{chart}</figure>",
        kind=kind, name=name, present=rate(present), total=amount(total), chart=chart(name, points, now),
    )  # fmt: skip


def _facts(status: Status) -> Markup:
    """What a person compares with what he expects."""
    facts = {
        "Clients now": number(status.clients),
        "Clients since the start": number(status.accepted),
        "Connections made": number(status.dialled),
        "Not made, or refused": number(sum(status.refused.values())),
        "Packets dropped": number(sum(sum(drops.values()) for drops in status.drops.values())),
        "TCP segments resent": number(status.tcp_segments_resent),
    }
    items = join(fill("<div><dt>{what}</dt><dd>{count}</dd></div>", what=what, count=n) for what, n in facts.items())
    return fill('<dl class="facts">{items}</dl>', items=items)


def _troubles(status: Status) -> Markup:
    """Those that the verdict does not tell already."""
    left = status.health[1:] if judge(status).state in ("down", "partly") else status.health
    items = join(fill("<li><b>{text}</b><span>{remedy}</span></li>", text=one.text, remedy=one.remedy) for one in left)
    return fill('<section id="troubles"{hidden}><h2>What else is wrong</h2><ul>{items}</ul></section>', items=items,
                hidden=Markup("" if left else " hidden"))  # fmt: skip


def _peers(status: Status) -> Markup:
    shown: Sequence[PeerStatus] = status.peers
    count = number(len(shown))
    if len(shown) > PEERS:  # those in trouble first
        shown = sorted(shown, key=lambda peer: (not peer.trouble, -peer.rx_rate - peer.tx_rate))[:PEERS]
        count += f", {number(PEERS)} of them here"
    rows = join(_peer(status, peer) for peer in shown) or Markup('<p class="none">There is none.</p>')
    return fill('<section id="peers"><h2>Peers <small>{count}</small></h2>{rows}</section>', rows=rows, count=count)


def _peer(status: Status, peer: PeerStatus) -> Markup:
    state = peer_state(peer, status.at)
    networks = ", ".join(peer.allowed_ips[:NETWORKS]) or "none"
    more = len(peer.allowed_ips) - NETWORKS
    shake = "never" if peer.latest_handshake is None else f"{ago(status.at - peer.latest_handshake)} ago"
    return fill(
        '<article class="peer {state}"><h3><i class="dot"></i><code title="{key}">{key}</code><em>{word}</em></h3><dl>'
        "<div><dt>Endpoint</dt><dd>{endpoint}</dd></div><div><dt>Allowed IPs</dt><dd>{networks}</dd></div>"
        "<div><dt>Latest handshake</dt><dd>{shake}</dd></div>"
        '<div><dt>Received</dt><dd class="figure">{rx} <small>{rx_rate}</small></dd></div>'
        '<div><dt>Sent</dt><dd class="figure">{tx} <small>{tx_rate}</small></dd></div></dl></article>',
        state=state, key=peer.public_key, word=_WORDS[state], endpoint=peer.endpoint or "not known",
        networks=networks + (f" and {more} more" if more > 0 else ""), shake=shake,
        rx=amount(peer.rx_bytes), tx=amount(peer.tx_bytes), rx_rate=rate(peer.rx_rate), tx_rate=rate(peer.tx_rate),
    )  # fmt: skip


def _streams(status: Status) -> Markup:
    shown = sorted(status.streams, key=lambda one: (one.up_rate + one.down_rate, one.down_bytes + one.up_bytes),
                   reverse=True)  # fmt: skip
    total = number(status.streams_total)
    if len(shown) < status.streams_total:
        total += f", the {number(len(shown))} busiest of them here"
    if not shown:
        body = Markup('<p class="none">Nobody asks for anything just now.</p>')
    else:
        body = fill(
            '<table><thead><tr><th>Destination</th><th>Client</th><th class="figure">Since</th>'
            '<th class="figure">Down</th><th class="figure">Up</th></tr></thead><tbody>{rows}</tbody></table>',
            rows=join(_stream(status, one) for one in shown),
        )
    return fill('<section id="streams"><h2>Streams <small>{total}</small></h2>{body}</section>', total=total, body=body)


def _stream(status: Status, one: StreamStatus) -> Markup:
    who = fill("{client} <b>{user}</b>", client=one.client, user=one.user) if one.user else fill("{c}", c=one.client)
    return fill(
        '<tr><td class="target">{destination}<small>{method} · {route}</small></td>'
        '<td data-label="Client">{who}</td><td class="figure" data-label="Since">{age}</td>'
        '<td class="figure" data-label="Down">{down} <small>{down_rate}</small></td>'
        '<td class="figure" data-label="Up">{up} <small>{up_rate}</small></td></tr>',
        destination=one.destination or "-", method=one.method, who=who, route=one.route or "?",
        age=ago(status.at - one.began), down=amount(one.down_bytes), down_rate=rate(one.down_rate),
        up=amount(one.up_bytes), up_rate=rate(one.up_rate),
    )  # fmt: skip


def _recent(status: Status) -> Markup:
    items = join(_complaint(status, one) for one in reversed(status.recent[-COMPLAINTS:]))
    body = fill("<ol>{items}</ol>", items=items) if items else Markup('<p class="none">No warning and no error.</p>')
    return fill('<section id="recent"><h2>Recent warnings and errors</h2>{body}</section>', body=body)


def _complaint(status: Status, one: Complaint) -> Markup:
    times = "" if one.count == 1 else f"{number(one.count)} times, last "
    return fill(
        '<li class="{level}"><span class="when"><time datetime="{iso}" title="{iso}">{times}{age} ago</time></span>'
        "<span>{message}</span></li>",
        level=one.level, times=times, age=ago(status.at - one.last), message=one.message,
        iso=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.last)),
    )  # fmt: skip


def _use(status: Status) -> Markup:
    where = join(fill("<li>{one}</li>", one=one) for one in (*status.listeners, *status.forwards))
    lines = join(map(_paste, status.hints))
    browser = Markup("")
    if status.pac is not None:
        browser = fill("<h3>For a browser: automatic proxy configuration (PAC)</h3>{pac}", pac=_paste(status.pac))
    return fill(
        '<section id="use"><h2>Use it</h2><div class="columns"><div><h3>It listens</h3><ul>{where}</ul></div>'
        "<div><h3>To paste into a shell</h3>{lines}{browser}</div></div></section>",
        where=where or Markup('<li class="none">nowhere</li>'), lines=lines or Markup('<p class="none">nothing</p>'),
        browser=browser,
    )  # fmt: skip


def _paste(line: str) -> Markup:
    return fill('<div class="paste"><code>{line}</code><button type="button" hidden>Copy</button></div>', line=line)


def _footer(status: Status) -> Markup:
    return fill(
        "<footer><p>usernet {version}, up since <time>{started}</time>, process {pid}. {addresses}, MTU {mtu}, "
        "UDP port {port}, {mode}, {kernel} kernel, {loop}. Our public key: <code>{key}</code></p>"
        '<nav><a href="/status">status</a> <a href="/metrics">metrics</a> <a href="/readyz">readyz</a> '
        '<a href="/debug/stacks">stacks</a> <a href="/debug/heap">heap</a> '
        '<a href="/debug/profile?seconds=5">profile of 5 s</a></nav></footer>',
        version=status.version, pid=status.pid, addresses=", ".join(status.addresses), mtu=status.mtu,
        port=status.listen_port, mode=status.mode, kernel=status.kernel, loop=status.loop, key=status.public_key,
        started=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started)),
    )  # fmt: skip
