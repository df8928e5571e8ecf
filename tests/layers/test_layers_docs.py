"""Documentation that leads somewhere: links, and an index that knows every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ganeti

CHECKOUT = Path(ganeti.__file__).parent.parent
PAGES = [
    *sorted(CHECKOUT.glob("*.md")),
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    *sorted((CHECKOUT / "examples").rglob("*.md")),
]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```", re.DOTALL)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Files that a page points to, with the heading after the `#`."""
    for target in _LINK.findall(_CODE.sub("", page.read_text("utf-8"))):
        if "://" not in target:
            path, _, heading = target.partition("#")
            yield (page.parent / path).resolve() if path else page, heading


def headings(page: Path) -> set[str]:
    """Headings of a page as links name them."""
    found = re.findall(r"^#+ (.*)$", _CODE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


class DocumentationTests(SynchronousTestCase):
    """Pages and links."""

    def test_links(self) -> None:
        """Every link leads to a file of the project, and to a heading that is there."""
        broken = []
        for page in PAGES:
            for target, heading in links(page):
                if not target.exists() or (heading and heading not in headings(target)):
                    broken.append(f"{page.relative_to(CHECKOUT)}: {target.name}#{heading}")
        self.assertEqual(broken, [])

    def test_index(self) -> None:
        """The index knows every page of the documentation."""
        index = CHECKOUT / "docs/index.md"
        known = {target for target, _ in links(index)}
        pages = {page.resolve() for page in (CHECKOUT / "docs").rglob("*.md")} - {index.resolve()}
        self.assertEqual(sorted(page.name for page in pages - known), [])

    def test_titles(self) -> None:
        """Every page begins with its title."""
        self.assertEqual([page.name for page in PAGES if not page.read_text("utf-8").startswith("# ")], [])
