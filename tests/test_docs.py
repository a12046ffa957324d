"""The documentation holds together: links, anchors, paths that code names, modules that the reference shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LIVING = [
    page for page in PAGES if page.parent.name not in ("decisions", "log")
]  # the others are of their time
PACKAGE = ROOT / "src" / "countersteer"
COMING: set[str] = set()  # files that pages name and that are not here yet; take out what has arrived
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings as GitHub writes them; a heading that comes again is numbered."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        while (anchor := slug if number == 0 else f"{slug}-{number}") in found:
            number += 1
        found.add(anchor)
    return found


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading of one, in words."""
    wrong = []
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            wrong.append(f"{page.name}: {target} leads to no file")
        elif anchor and anchor not in anchors(text if file == page else file.read_text()):
            wrong.append(f"{page.name}: {target} leads to no heading of {file.name}")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_resolve(page: Path):
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A: b (c)\n\n[right](#a-b-c) [file](gone.md) [heading](page.md#gone)\n```\n[code](gone)\n```\n"
    )
    assert broken_links(page, page.read_text()) == [
        "page.md: gone.md leads to no file",
        "page.md: page.md#gone leads to no heading of page.md",
    ]


def test_pages_that_code_names_exist():
    wrong = []
    for folder in ("src", "tests", "benchmarks", "examples", "results"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix not in (".py", ".md", ".html"):
                continue
            for name in re.findall(r"\bdocs/[\w/.-]+\.md\b", file.read_text()):
                if not (ROOT / name).is_file():
                    wrong.append(f"{file.relative_to(ROOT)} names {name}")
    assert wrong == []


def test_the_reference_shows_modules_that_exist():
    wrong = []
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE):
            module = ROOT / "src" / Path(*name.split("."))
            if not (module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()):
                wrong.append(f"{page.name} shows {name}")
    assert wrong == []


def missing_files(text: str) -> list[str]:
    """Python files that a page names in code marks and that are neither in the package nor in the repository."""
    names = re.findall(r"`([\w./]+/[\w./]*\w\.py)(?::\w+)?`", text)
    return [name for name in names if not any((base / name).is_file() for base in (ROOT, PACKAGE))]


@pytest.mark.parametrize("page", LIVING, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_exist(page: Path):
    assert [name for name in missing_files(page.read_text()) if name not in COMING] == []


def test_what_was_to_come_is_taken_out_once_it_is_here():
    assert not {name for name in COMING if (ROOT / name).is_file() or (PACKAGE / name).is_file()}


def test_a_missing_file_is_found():
    assert missing_files("`tests/test_docs.py`, `worlds/gone.py`, `my.py:function`") == ["worlds/gone.py"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path):
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("the extra `docs` is not installed")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
