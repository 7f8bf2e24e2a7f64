"""The Grafana dashboard asks for what is there: every expression, by Prometheus' own rules."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.status.metrics import exposition
from tests.status.support import a_status
from tests.support.skipping import needs

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text("utf-8"))
# Words of PromQL, and labels that Prometheus itself adds
WORDS = {"rate", "sum", "by", "time", "label_values", "job", "instance"}


def expressions() -> Iterator[tuple[str, str]]:
    """And their legends."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"], ""


def exported() -> dict[str, set[str]]:
    """Labels by name."""
    text, _ = exposition(a_status(), "")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("expression", "legend"), list(expressions()))
def test_every_name_is_exported(expression: str, legend: str) -> None:
    names = exported()
    bare = re.sub(r'"[^"]*"', "", expression)
    words = {word for word in re.findall(r"[a-z_]{2,}", bare) if "$" + word not in bare} - WORDS - {"__rate_interval"}
    metrics = {word for word in words if "_" in word and word != "public_key"}
    assert len(metrics) == 1
    (metric,) = metrics
    assert metric in names
    labels = (words - metrics) | set(re.findall(r"{{(\w+)}}", legend))
    assert labels - {"job", "instance"} <= names[metric]


def test_every_metric_of_ours_is_shown() -> None:
    asked = " ".join(expression for expression, _ in expressions())
    hidden = {"usernet_tunnel_info", "usernet_proxy_accepted_total", "usernet_proxy_upload_bytes_total",
              "usernet_proxy_download_bytes_total", "usernet_tcp_connections"}  # fmt: skip
    assert {name for name in exported() if name.startswith("usernet_") and name not in asked} == hidden


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_by_prometheus_own_parser(tmp_path: Path) -> None:
    needs("promtool")
    rules = [
        {"record": f"x{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (expression, _) in enumerate(expressions())
        if "label_values" not in expression
    ]
    file = tmp_path / "rules.yml"  # of which JSON is a kind
    file.write_text(json.dumps({"groups": [{"name": f"g{n}", "rules": [rule]} for n, rule in enumerate(rules)]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
