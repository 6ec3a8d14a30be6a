"""The parts that self-contained pages of results are made of: no network, styles inline, pictures as data URIs.

What is called text is escaped here; what is called HTML is not.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def page(
    title: str,
    lead: str,
    sections: Mapping[str, str],
    name: str = "",
    warnings: Sequence[str] = (),
    css: str = "",
) -> str:
    """Write a complete document that refers to nothing outside it.

    Args:
        title: Its heading, as text.
        lead: The paragraph under that, as text.
        sections: By heading, which is text, the HTML of each section.
        name: What the browser shows as its name, as text; the title by default.
        warnings: What a reader must know before the figures, as texts.
        css: Rules besides those that all pages have.

    >>> page("Rewards", "All of them.", {"Table": table([], [])})[:15]
    '<!doctype html>'
    """
    alerts = "".join(f'<p class="warning">{escape(warning)}</p>\n' for warning in warnings)
    body = "\n".join(
        f"<section>\n<h2>{escape(head)}</h2>\n{content}\n</section>" for head, content in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name or title)}</title>\n<style>{_CSS}{css}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        f"{alerts}{body}\n</main>\n</body>\n</html>\n"
    )


def escape(value: Any) -> str:
    """Write any value as text of a page, or of an attribute.

    >>> escape('<b class="x">')
    '&lt;b class=&quot;x&quot;&gt;'
    """
    return html.escape(str(value), quote=True)


def note(text: str) -> str:
    """Write a paragraph of small print.

    >>> note("1 < 2")
    '<p class="note">1 &lt; 2</p>'
    """
    return f'<p class="note">{escape(text)}</p>'


def bullets(items: Sequence[str]) -> str:
    """Write a list of texts.

    >>> bullets(["one", "two"])
    '<ul><li>one</li><li>two</li></ul>'
    """
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def details(title: str, content: str) -> str:
    """Hide HTML behind a title, a text, that opens it.

    >>> details("More", "<p>text</p>")
    '<details><summary>More</summary><p>text</p></details>'
    """
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], kind: str = "") -> str:
    """Write a table that scrolls where it is too wide. Head, row names and cells are HTML.

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


def picture(pngs: Sequence[bytes], alt: str) -> str:
    """Show a picture that was drawn for a light and for a dark page; `alt` is its text for who cannot see it.

    >>> picture((b"light", b"dark"), "Curves").partition("<img ")[2]
    'src="data:image/png;base64,bGlnaHQ=" alt="Curves"></picture></div>'
    """
    light, dark = ("data:image/png;base64," + base64.b64encode(png).decode() for png in pngs)
    return (
        f'<div class="scroll"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(alt)}"></picture></div>'
    )


_CSS = """
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
small,.note,.sub{color:var(--soft)}.note{font-size:.88rem}.lead{font-size:1.1rem}
.warning{background:var(--badface);color:var(--bad);padding:.6rem .9rem;border-radius:8px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;margin:.3rem 0}
th,td{text-align:left;vertical-align:top;padding:.4rem .9rem .4rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;white-space:nowrap}td small{font-weight:400;white-space:nowrap}
.sub{display:block;font-size:.82rem;white-space:nowrap}
.wide{display:block;min-width:15rem;max-width:24rem;white-space:normal}
.terms{display:block;min-width:13rem;color:var(--soft);font-size:.82rem}
.dot{display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.4em}
img{max-width:100%;height:auto;display:block}
summary{cursor:pointer;margin:.4rem 0}
article{border:1px solid var(--line);border-radius:10px;padding:.9rem;margin:0 0 1rem}
.question{margin:.2rem 0 .7rem}
.beside{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.7rem}
.episode{background:var(--panel);border-radius:8px;padding:.7rem;min-width:0}
.turns code,.turns p{display:block;margin:.2rem 0;overflow-wrap:anywhere;white-space:pre-wrap}
.turns .result{margin:0 0 .55rem .9rem}
code{font:.84rem/1.45 ui-monospace,monospace;border-radius:5px;padding:.1rem .35rem}
.call{background:var(--callface);color:var(--call)}
.result.ok{color:var(--ok)}.result.bad{color:var(--bad);background:var(--badface)}
.said{color:var(--soft);font-size:.88rem}
.end{margin:.6rem 0 0;font-size:.88rem}
.badge{border-radius:99px;padding:.1rem .55rem;font-weight:600}
.badge.open{background:var(--panel);color:var(--soft);border:1px solid var(--line)}
.badge.ok{background:var(--okface);color:var(--ok)}.badge.bad{background:var(--badface);color:var(--bad)}
@media (max-width:48rem){.beside{grid-template-columns:1fr}h1{font-size:1.4rem}img{max-width:none;width:36rem}}
"""
