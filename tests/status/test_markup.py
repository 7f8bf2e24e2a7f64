"""What is not markup is text."""

from __future__ import annotations

from proxy.status.markup import Markup, fill, join, number, rate, size


def test_escaping() -> None:
    evil = "<script>alert('1')</script>\"&"
    escaped = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&quot;&amp;"
    assert fill('<p title="{x}">{x}</p>', x=evil) == f'<p title="{escaped}">{escaped}</p>'
    assert fill("{x}", x=fill("<b>{y}</b>", y="<")) == "<b>&lt;</b>"
    assert isinstance(join([Markup("<a>"), fill("{x}", x=1)]), Markup)
    assert fill("{x}", x="{y}") == "{y}", "a value is no template"


def test_sizes() -> None:
    for count, text in ((0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9960, "10 kB"),
                        (999_600, "1.0 MB"), (34_000_000, "34 MB"), (5e15, "5000 TB")):  # fmt: skip
        assert size(count) == text
    assert rate(1500.4) == "1.5 kB/s"
    assert number(1234567) == "1,234,567"
