"""Every link inside the documents leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[3]
DOCUMENTS: Final = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
)
_FENCE: Final = re.compile(r"^(`{3,}).*?^\1$", re.M | re.S)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for target in _links(document):
        place, _, heading = target.partition("#")
        path = (document.parent / place).resolve() if place else document
        assert path.exists(), f"{target} leads nowhere"
        assert not heading or heading in _headings(path), f"{target}: no such heading"


def test_every_page_can_be_reached_from_the_index() -> None:
    found, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            waiting += [
                (page.parent / link.partition("#")[0]).resolve()
                for link in _links(page)
            ]
    pages = set(ROOT.glob("docs/**/*.md"))
    assert pages - found == set()


def _links(document: Path) -> Iterator[str]:
    text = _FENCE.sub("", document.read_text())
    for target in _LINK.findall(text):
        if not re.match(r"[a-z]+:", target):
            yield target


def _headings(document: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    text = _FENCE.sub("", document.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
