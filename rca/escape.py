"""Untrusted text for Markdown and HTML. Names of processes, groups and files come from whoever runs them."""

import html
import re

from rca.units import clean

_EVIDENCE = re.compile(r"\\\[(E\d{1,3})\\\]")
_MARK = re.compile(r"([\\`*\[\]|~])")
_EDGE = re.compile(r"(?<!\w)_|_(?!\w)")
LONGEST = 2000


def markdown(text: str) -> str:
    """One line that Markdown shows as it is: no markup, no HTML, no links. Evidence ids in brackets stay readable.

    >>> markdown("a <b> [E1] [x](http://y) `c` _d_ e_f")
    'a &lt;b&gt; [E1] \\\\[x\\\\](http:\\\\//y) \\\\`c\\\\` \\\\_d\\\\_ e_f'
    """
    line = _MARK.sub(r"\\\1", clean(text, LONGEST))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _EDGE.sub(r"\\_", line).replace("://", ":\\//").replace("www.", "www\\.")
    return _EVIDENCE.sub(r"[\1]", line)


def code(text: str) -> str:
    """A code span that its content cannot leave."""
    line = clean(text, LONGEST)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block(text: str) -> str:
    """A fenced block of several lines that its content cannot leave."""
    lines = [clean(line, LONGEST) for line in text.splitlines()] or [""]
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def markup(text: str) -> str:
    """Text for HTML, attribute values included."""
    return html.escape(clean(text, LONGEST), quote=True)


def markup_block(text: str) -> str:
    """Several lines for HTML's <pre>."""
    return html.escape("\n".join(clean(line, LONGEST) for line in text.splitlines()), quote=True)
