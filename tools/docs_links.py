"""Hook of mkdocs: links to files of the repository that are no page of the manual become names."""

from __future__ import annotations

import re

OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)\s#]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page's text with ``[words](../path)`` as the words and the path."""

    def name(match: re.Match[str]) -> str:
        words, path = match.groups()
        return f"`{path}`" if words.strip("`/") in path else f"{words} (`{path}`)"

    return OUTSIDE.sub(name, markdown)
