"""The report's arithmetic: medians, the better rival, and when a goal is met."""

from __future__ import annotations

import json

import pytest

from tests.bench.goals import ROWS
from tests.bench.results import MACHINE, Results, as_json, as_markdown, table

NAMES = ["native+uvloop", "native+asyncio", "python+uvloop", "sing-box", "onetun"]
BY_KEY = {row.key: row for row in ROWS}


def results(**rows: dict[str, list[float]]) -> Results:
    """Rows by key, with _ for a space and "gso" for "go-gso"; a column for each candidate."""
    made = Results()
    for key, columns in rows.items():
        for name, values in columns.items():
            for value in values:
                made.add(key.replace("_", " ").replace("gso", "go-gso"), name, value)
    return made


def test_the_median_of_the_rounds_counts() -> None:
    made = results(gso_down_1={"sing-box": [100, 900, 110], "native+uvloop": [1, 165, 220]})
    assert made.verdict(BY_KEY["go-gso down 1"], "native+uvloop") == "1.5 >= 1.5 met"


def test_the_better_rival_is_the_faster_one_where_more_is_better() -> None:
    made = results(gso_up_1={"sing-box": [50], "onetun": [100], "native+uvloop": [399], "python+uvloop": [200]})
    assert made.verdict(BY_KEY["go-gso up 1"], "native+uvloop") == "3.99 >= 4 MISSED"
    assert made.verdict(BY_KEY["go-gso up 1"], "python+uvloop") == "2 >= 2 met"


def test_the_better_rival_is_the_smaller_one_where_less_is() -> None:
    made = results(peak={"sing-box": [500], "onetun": [200], "native+uvloop": [40], "python+uvloop": [41]})
    assert made.verdict(BY_KEY["peak"], "native+uvloop") == "0.2 <= 0.2 met"
    assert made.verdict(BY_KEY["peak"], "python+uvloop") == "0.205 <= 0.2 MISSED"


def test_kernels_have_goals_of_their_own_and_asyncio_has_none() -> None:
    made = results(one_p99={name: [1.1 if name.startswith(("native", "python")) else 1.0] for name in NAMES})
    row = BY_KEY["one p99"]
    assert made.verdict(row, "native+uvloop") == "1.1 <= 1 MISSED"
    assert made.verdict(row, "python+uvloop") == "1.1 <= 1.2 met"
    assert made.verdict(row, "native+asyncio") == "1.1"


def test_a_held_connection_is_judged_as_it_is() -> None:
    made = results(**{"1000_each": {"native+uvloop": [12.0], "python+uvloop": [12.1], "sing-box": [1.0]}})
    assert made.verdict(BY_KEY["1000 each"], "native+uvloop") == "<= 12 met"
    assert made.verdict(BY_KEY["1000 each"], "python+uvloop") == "<= 12 MISSED"


def test_default_buffers_are_compared_with_the_same_candidates_large_ones() -> None:
    made = results(gso_down_1={"native+uvloop": [200], "sing-box": [900]}, buffers_down_1={"native+uvloop": [188]})
    assert made.verdict(BY_KEY["buffers down 1"], "native+uvloop") == "0.94 >= 0.95 MISSED"


def test_cpu_per_packet_is_compared_with_aead_alone() -> None:
    made = results(packet={"native+uvloop": [3.0], "sing-box": [1.0]}, aead={MACHINE: [0.75]})
    assert made.verdict(BY_KEY["packet"], "native+uvloop") == "4 <= 4 met"


def test_a_rival_that_failed_is_left_out_of_the_comparison_and_says_so() -> None:
    made = results(gso_up_1={"sing-box": [40], "native+uvloop": [160]})
    made.fail("go-gso up 1", "onetun", "failed")
    made.fail("go-gso up 1", "onetun", "another reason")
    made.fail("go-gso up 1", "sing-box", "failed")  # in a later round
    row = BY_KEY["go-gso up 1"]
    assert made.verdict(row, "native+uvloop") == "4 >= 4 met"
    assert made.cell(row, "onetun") == "failed"
    assert made.cell(row, "sing-box") == "40.0 (failed once)"


@pytest.mark.parametrize("there", ["native+uvloop", "sing-box"])
def test_a_goal_without_a_figure_is_not_met(there: str) -> None:
    assert results(peak={there: [1]}).verdict(BY_KEY["peak"], "native+uvloop") == "<= 0.2 no figure"


def test_the_table_has_the_rows_of_which_something_is_known() -> None:
    made = results(socks5={"native+uvloop": [5000.4], "sing-box": [2500]}, aead={MACHINE: [0.7]})
    made.fail("udp", "native+uvloop", "not supported")
    rows = table(made, ["native+uvloop", "sing-box"])
    assert [row[0] for row in rows[1:]] == [BY_KEY[key].title for key in ("aead", "socks5", "udp")]
    assert rows[2][1:] == ["requests/s", "5,000", "2,500", "2 >= 1 met"]
    assert rows[3][2:] == ["not supported", ".", ""]
    assert {len(row) for row in rows} == {5}
    assert "| requests/s | 5,000 | 2,500 | 2 >= 1 met |" in as_markdown(rows, {"date": "today"})


def test_json_has_every_value_and_the_ratio() -> None:
    made = results(socks5={"native+uvloop": [4000, 6000], "sing-box": [2500]})
    read = json.loads(json.dumps(as_json(made, ["native+uvloop", "sing-box"], {"date": "today"})))
    assert read["facts"] == {"date": "today"}
    row = read["rows"]["socks5"]
    assert row["values"] == {"native+uvloop": [4000, 6000], "sing-box": [2500]}
    assert row["compared"]["native+uvloop"] == 2
    assert row["goals"] == {"native+uvloop": 1.0}


def test_every_row_has_a_key_of_its_own() -> None:
    assert len(BY_KEY) == len(ROWS)
