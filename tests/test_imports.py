"""Imports run one way, importing is cheap and silent, and shape annotations are really checked."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import Float, jaxtyped

from countersteer.geometry import polylines
from countersteer.vehicles.plans import Action
from typecheck import check

SOURCE = Path(__file__).resolve().parents[1] / "src" / "countersteer"

# From the bottom up: a module may import its own part and those before it.
ORDER = (
    *(
        "errors",
        "ranges",
        "interrupts",
        "extensions",
        "tensors",
        "kernels",
        "noise_kernels",
        "noise",
        "storage",
    ),
    *("geometry", "vehicles", "models", "traffic"),
    *("scenarios", "data", "reconstruction"),
    *("worlds", "rewards"),
    *("policies", "experts", "drivers", "rollouts", "objectives"),
    *("training", "evaluation"),
    *("recipes", "reporting"),
    *("environments", "serving"),
    "commands",
    "__main__",
)
HEAVY = (
    "torch",
    "numba",
    "triton",
    "cv2",
    "matplotlib",
    "tensorboard",
    "av",
    "pyarrow",
    "gymnasium",
    "pettingzoo",
)


def imported_parts(module: str, source: str, is_package: bool = False) -> list[tuple[int, str]]:
    """Line and first-level part of every countersteer import in a module, wherever in it it stands."""
    return [(line, name.split(".")[1]) for line, name in imported_names(module, source, is_package)]


def imported_names(module: str, source: str, is_package: bool = False) -> list[tuple[int, str]]:
    """Line and full name of everything of countersteer that a module imports, inside functions too."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:
                anchor = module.split(".") if is_package else module.split(".")[:-1]
                anchor = anchor[: len(anchor) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            root, _, rest = name.partition(".")
            if root == "countersteer" and rest and not rest.startswith("__version__"):
                found.append((node.lineno, name))
    return found


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """Imports of `module` that run the wrong way, in words."""
    mine = module.split(".")[1] if "." in module else None
    if mine is not None and mine not in ORDER:
        return [f"{module}: say in ORDER where {mine!r} belongs"]
    wrong = []
    for line, part in imported_parts(module, source, is_package):
        if part not in ORDER:
            wrong.append(f"{module}:{line} imports {part!r}; say in ORDER where it belongs")
        elif mine is None or ORDER.index(part) > ORDER.index(mine):
            wrong.append(f"{module}:{line} imports {part!r}, which comes later")
    return wrong


def package_modules() -> list[tuple[str, Path]]:
    """Dotted name and file of every module in the package."""
    modules = []
    for file in sorted(SOURCE.rglob("*.py")):
        parts = ["countersteer", *file.relative_to(SOURCE).with_suffix("").parts]
        modules.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), file))
    return modules


def test_every_package_that_is_imported_is_declared():
    """Each import of another package is a dependency or in an extra; what is not names its distribution here."""
    distributions = {
        "PIL": "pillow",
        "carla_driver_interface": "carla-driver-interface",
        "cv2": "opencv-python-headless",
        "google": "protobuf",
        "metadrive": "metadrive-simulator",
        "rerun": "rerun-sdk",
        # What the package in the middle cannot be without.
        "grpc": "carla-driver-interface",
        "llvmlite": "numba",
        "markupsafe": "jinja2",
        "panda3d": "metadrive-simulator",
    }
    hosts = {"navsim"}  # programs that call us and are no package on an index
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]
    stated = list(itertools.chain(project["dependencies"], *project["optional-dependencies"].values()))
    declared = {re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower() for line in stated}
    missing = {}
    for name, file in package_modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules = [node.module]
            else:
                continue
            for module in {module.partition(".")[0] for module in modules}:
                known = module in sys.stdlib_module_names or module in hosts or module == "countersteer"
                if not known and distributions.get(module, module) not in declared:
                    missing[module] = name
    assert not missing, "say in pyproject.toml which packages these are from"


def imports_of_modules(sources: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """Which of these modules each of them imports; a package is imported where something that it defines is."""
    graph: dict[str, set[str]] = {}
    for module, (source, is_package) in sources.items():
        names = [name for _, name in imported_names(module, source, is_package)]
        modules = {name if name in sources else name.rpartition(".")[0] for name in names}
        graph[module] = (modules & sources.keys()) - {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other: the strongly connected components of more than one module."""

    def reached(start: str, steps: dict[str, set[str]]) -> set[str]:
        seen, ahead = {start}, [start]
        while ahead:
            more = steps[ahead.pop()] - seen
            seen |= more
            ahead += more
        return seen

    back: dict[str, set[str]] = {module: set() for module in graph}
    for module, others in graph.items():
        for other in others:
            back[other].add(module)
    found: list[set[str]] = []
    for module in graph:
        if not any(module in circle for circle in found):
            circle = reached(module, graph) & reached(module, back)
            found += [circle] if len(circle) > 1 else []
    return found


def test_no_modules_import_each_other():
    sources = {
        name: (file.read_text(), file.name == "__init__.py")
        for name, file in package_modules()
        if name != "countersteer"
    }
    assert circles(imports_of_modules(sources)) == []


def test_a_circle_is_found_inside_functions_and_through_packages():
    sources = {
        "countersteer.a": ("from countersteer.b import thing", False),
        "countersteer.b": ("from countersteer.b import low\ndef late():\n    from . import c", True),
        "countersteer.b.c": ("from countersteer import a", False),
        "countersteer.b.low": ("import math", False),
    }
    assert circles(imports_of_modules(sources)) == [{"countersteer.a", "countersteer.b", "countersteer.b.c"}]
    sources["countersteer.b.c"] = ("from countersteer.b import low", False)
    assert circles(imports_of_modules(sources)) == []


def test_imports_run_one_way():
    modules = package_modules()
    assert len(modules) > 10, "the checker found no package to check"
    wrong = [
        problem
        for name, file in modules
        for problem in violations(name, file.read_text(), file.name == "__init__.py")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("countersteer.geometry.poses", "import countersteer.worlds.interface"),
        ("countersteer.geometry.poses", "from countersteer import worlds"),
        ("countersteer.geometry.poses", "from ..worlds.interface import World"),
        ("countersteer.geometry.poses", "from .. import worlds"),
        ("countersteer.errors", "from countersteer.tensors import TensorTree"),
        ("countersteer.policies.small", "def late():\n    from countersteer.drivers import mixed"),
        ("countersteer.training.loop", "from countersteer.evaluation.records import DriveRecord"),
        ("countersteer.recipes.clone", "from countersteer.commands.cli import main"),
        ("countersteer.utils", "import math"),
        ("countersteer.commands.cli", "from countersteer.helpers import anything"),
        ("countersteer", "from countersteer.worlds.interface import World"),
    ],
)
def test_the_checker_catches_a_wrong_import(module: str, source: str):
    assert violations(module, source, is_package=module == "countersteer")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("countersteer.worlds.simulation.state", "from .. import interface\nfrom ...geometry import boxes"),
        ("countersteer.evaluation.suites", "from countersteer.storage.checkpoint import load"),
        ("countersteer.objectives.ppo", "from countersteer.drivers.interface import Decision"),
        ("countersteer.commands.cli", "from countersteer import __version__, recipes\nimport numpy, os.path"),
        ("countersteer.tensors", "from countersteer.errors import UserError"),
    ],
)
def test_the_checker_lets_a_right_import_pass(module: str, source: str):
    assert violations(module, source) == []


def fresh_interpreter(*modules: str) -> tuple[list[str], str]:
    """Which heavy libraries importing `modules` loads, and everything that it prints."""
    imports = "; ".join(f"import {module}" for module in modules)
    code = f"import sys; {imports}; print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, _, loaded = done.stdout.partition("LOADED")
    return loaded.split(), before + done.stderr


def test_importing_the_package_is_cheap_and_silent():
    loaded, printed = fresh_interpreter("countersteer")
    assert loaded == []
    assert printed == ""


def test_importing_the_command_line_is_cheap_and_silent():
    if importlib.util.find_spec("countersteer.commands.cli") is None:
        pytest.skip("there is no command line yet")
    loaded, printed = fresh_interpreter("countersteer.commands.cli")
    assert loaded == []
    assert printed == ""


def test_the_seams_import_without_kernels_and_viewers():
    seams = [name for name, _ in package_modules() if name.endswith(".interface")]
    loaded, printed = fresh_interpreter("countersteer.geometry.poses", "countersteer.geometry.boxes", *seams)
    assert set(loaded) <= {"torch"}
    assert printed == ""


def test_a_wrong_array_shape_raises():
    with pytest.raises(jaxtyping.TypeCheckError):
        polylines.arc_length(np.zeros(3))


def test_a_wrong_field_shape_raises():
    with pytest.raises(jaxtyping.TypeCheckError):
        Action(curvature=torch.zeros(3), acceleration=torch.zeros(4))


@jaxtyped(typechecker=check)
def _shortened(points: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return points[1:]


def test_a_wrong_returned_shape_raises():
    with pytest.raises(jaxtyping.TypeCheckError):
        _shortened(np.zeros(3))


def test_methods_that_mention_self_are_still_checked():
    action = Action(curvature=torch.zeros(2), acceleration=torch.zeros(2))
    assert action[0].curvature.shape == ()
    with pytest.raises(jaxtyping.TypeCheckError):
        action.to(3)  # type: ignore[arg-type]
