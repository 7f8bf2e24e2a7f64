"""What is not markup is text."""

from __future__ import annotations

from proxy.status.markup import Markup, fill, join, number


def test_escaping() -> None:
    evil = "<script>alert('1')</script>\"&"
    escaped = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&quot;&amp;"
    assert fill('<p title="{x}">{x}</p>', x=evil) == f'<p title="{escaped}">{escaped}</p>'
    assert fill("{x}", x=fill("<b>{y}</b>", y="<")) == "<b>&lt;</b>"
    assert isinstance(join([Markup("<a>"), fill("{x}", x=1)]), Markup)
    assert fill("{x}", x="{y}") == "{y}", "a value is no template"


def test_numbers() -> None:
    assert number(1234567) == "1,234,567"
