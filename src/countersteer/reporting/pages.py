"""Pages for a browser, from the templates beside this module: self-contained, replaced at once or not at all.

`templates/head.html` begins every page; `macros.html` holds what several of them draw.
"""

from __future__ import annotations

from pathlib import Path

from countersteer.errors import UserError, write_results
from countersteer.storage.files import write_whole

__all__ = ["require_ending", "write_page"]


def require_ending(path: Path, kind: str, *endings: str) -> None:
    """Refuse a path that ends in none of these (with their dot, lower case), before anything is made for it."""
    if path.suffix.lower() not in endings:
        raise UserError(
            f"cannot write a {kind} as {path.name!r}", expected=f"a name that ends in {endings[0]}"
        )


def write_page(path: Path, template: str, **values: object) -> Path:
    """Fill a template of `templates/` and write it; the folder is made if need be."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("countersteer.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**values).encode("utf-8", "backslashreplace")
    write_results((path, lambda place: write_whole(place, page)))
    return path
