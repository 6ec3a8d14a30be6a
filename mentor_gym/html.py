"""Small parts of self-contained HTML pages: no network, light and dark, every text escaped by `escape`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CSS = """
:root{--face:#fff;--ink:#1f2328;--soft:#59636e;--line:#d9dee3;--panel:#f6f8fa;--ok:#116329;--okface:#dafbe1;
--bad:#a40e26;--badface:#ffebe9;--call:#0550ae;--callface:#e9f3ff}
@media (prefers-color-scheme:dark){:root{--face:#171b21;--ink:#e3e8ee;--soft:#9aa5b1;--line:#38414b;
--panel:#1f252d;--ok:#7ee2a0;--okface:#12331f;--bad:#ffa198;--badface:#45181b;--call:#9ecbff;--callface:#15304f}}
*{box-sizing:border-box}
body{margin:0;background:var(--face);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.25rem;margin:2.5rem 0 .8rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}
h3{font-size:1rem;margin:0 0 .3rem}h4{font-size:.9rem;margin:0 0 .5rem}
small,.note{color:var(--soft)}.note{font-size:.88rem}.lead{font-size:1.1rem}
.warning{background:var(--badface);color:var(--bad);padding:.6rem .9rem;border-radius:8px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;margin:.3rem 0}
th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;white-space:nowrap}
summary{cursor:pointer;margin:.4rem 0}
code{font:.84rem/1.45 ui-monospace,monospace}
"""


def escape(value: Any) -> str:
    """Write a value as text of a page, or of an attribute.

    >>> escape('<b class="x">')
    '&lt;b class=&quot;x&quot;&gt;'
    """
    return html.escape(str(value), quote=True)


def note(text: str) -> str:
    """Write a paragraph of small print; escapes.

    >>> note("1 < 2")
    '<p class="note">1 &lt; 2</p>'
    """
    return f'<p class="note">{escape(text)}</p>'


def details(title: str, content: str) -> str:
    """Write what opens on a click. The title is escaped, the content is HTML already.

    >>> details("More", "<p>text</p>")
    '<details><summary>More</summary><p>text</p></details>'
    """
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], kind: str = "") -> str:
    """Write a table that scrolls where it is too wide. Head, row names and cells are HTML already.

    Args:
        head: The heads of all columns, the one of the row names first.
        rows: Each row's name and its cells; a cell that begins with `<td` is taken as it is.
        kind: Class of the table.

    >>> table(["reward", "mean"], [("sparse", ["0.5"])])[:57]
    '<div class="scroll"><table><thead><tr><th>reward</th><th>'
    """
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join(
        f"<tr><th>{name}</th>"
        + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, cells in rows
    )
    attribute = f' class="{escape(kind)}"' if kind else ""
    return (
        f'<div class="scroll"><table{attribute}><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def page(title: str, lead: str, sections: Mapping[str, str], css: str = "") -> str:
    """Write a complete document that refers to nothing outside it.

    Args:
        title: Of the page; escaped.
        lead: Its first paragraph, HTML already.
        sections: Heads, which are escaped, and contents, which are HTML already.
        css: Rules after those of `CSS`.

    >>> page("Rewards", "All of them.", {"Table": table([], [])})[:15]
    '<!doctype html>'
    """
    body = "\n".join(
        f"<section>\n<h2>{escape(head)}</h2>\n{content}\n</section>" for head, content in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{lead}</p>\n{body}\n</main>\n</body>\n</html>\n'
    )
