"""Every relative link of a document resolves, down to the heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "drumline/*.md")
    for path in PROJECT.glob(pattern)
    if ".venv" not in path.parts
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def links(document: Path) -> list[str]:
    return re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", FENCE.sub("", document.read_text()))


def anchors(document: Path) -> set[str]:
    """The fragments of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(PROJECT)))
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for link in links(document):
        path, _, fragment = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (fragment and target.suffix == ".md" and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_a_link_to_a_heading_that_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What's here?\n\n```sh\n# no heading\n```\n\nSee [it](#whats-here).\n")
    assert links(page) == ["#whats-here"]
    assert anchors(page) == {"whats-here"}
