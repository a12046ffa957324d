"""Brings what lies outside docs/ into the site: the README as its home, and every file that a page links to.

On a page, links are those of the repository, so they work on a code host too; here they are turned into the site's.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}  # repository file: page of the site
LINK = re.compile(r"(\]\()([^()\s#:]+)((?:#[^()\s]*)?\))")


def in_repository(uri: str) -> str:
    """Path in the repository of a page of the site."""
    return next((source for source, page in PAGES.items() if page == uri), f"docs/{uri}")


def in_site(path: str) -> str:
    """Path in the site of a file of the repository."""
    return PAGES.get(path) or (
        path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}.txt"
    )


def linked(page: str, target: str) -> str:
    """Path in the repository that a link of a page of the repository leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README, CONTRIBUTING and every file outside docs/ that some page links to."""
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    for page in [file for file in files if file.is_documentation_page()]:
        path = in_repository(page.src_uri)
        for _, target, _ in LINK.findall((ROOT / path).read_text()):
            other = linked(path, target)
            uri = in_site(other)
            if (
                uri.startswith("repository/")
                and (ROOT / other).is_file()
                and files.get_file_from_path(uri) is None
            ):
                files.append(File.generated(config, uri, content=(ROOT / other).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the links of a page from paths of the repository into paths of the site."""
    path = in_repository(page.file.src_uri)
    here = posixpath.dirname(page.file.src_uri) or "."

    def turned(link: re.Match[str]) -> str:
        return link[1] + posixpath.relpath(in_site(linked(path, link[2])), here) + link[3]

    return LINK.sub(turned, markdown)


class Enumerations(griffe.Extension):
    """Lists the members of an enumeration in its docstring, each with the comment behind it."""

    def on_class_members(self, *, cls: griffe.Class, **_: object) -> None:
        """Called for every class that is read from a source, once its members are known."""
        if cls.docstring is None or not any(str(base).endswith(("Enum", "Flag")) for base in cls.bases):
            return
        lines = []
        for name, member in cls.members.items():
            if member.is_attribute and isinstance(member, griffe.Attribute) and not name.startswith("_"):
                comment = member.source.strip().splitlines()[-1].partition("  # ")[2]
                lines.append(f"- `{name}`: {comment}" if comment else f"- `{name}`")
        cls.docstring.value += "\n\n" + "\n".join(lines)
