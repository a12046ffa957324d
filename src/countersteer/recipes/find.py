"""Recipes by name, or from a file of the user's, with what words of a command line change in them."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from countersteer.errors import UserError, did_you_mean
from countersteer.storage.field_flags import override, word_type
from countersteer.storage.files import exists
from countersteer.storage.words import read

if TYPE_CHECKING:
    from countersteer.training.recipe import Recipe

__all__ = ["FoundRecipe", "find_recipe", "known_recipes", "with_fields"]

How = TypeVar("How")


def known_recipes() -> dict[str, str]:
    """Modules of `countersteer.recipes` by recipe: every function there that returns one, without importing them."""
    found: dict[str, str] = {}
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if (
                not isinstance(node, ast.FunctionDef)
                or node.returns is None
                or ast.unparse(node.returns) != "Recipe"
            ):
                continue
            if len(node.args.args) == len(node.args.defaults):  # those with other arguments change a recipe
                found[node.name] = file.stem
    return found


@dataclass(frozen=True)
class FoundRecipe:
    """A function that returns a recipe.

    Attributes:
        name: As it was asked for.
        build: The function.
        module: Where it stands.
        source: "file.py:function" if it is the user's, else None.
    """

    name: str
    build: Callable[..., Any]
    module: ModuleType
    source: str | None = None

    def recipe(self, **given: Any) -> Recipe:
        """What it returns for these arguments.

        Raises:
            UserError: It fails, or returns something else.
        """
        from countersteer.training.recipe import Recipe

        try:
            built = self.build(**given)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{self.name} failed",
                got=f"{type(error).__name__}: {error}",
                expected="a function that returns a Recipe",
                fix="run the file with python to see where",
            ) from None
        if not isinstance(built, Recipe):
            raise UserError(
                f"{self.name} did not return a recipe",
                got=type(built).__name__,
                expected="countersteer.training.recipe.Recipe",
                fix="return a Recipe",
            )
        for stage in built.stages:
            _check_parts(self.name, stage)
        return built

    def on_scenarios(self, recipe: Recipe, folder: Path, message: Callable[[str], None]) -> Recipe:
        """The recipe in the user's recordings, as its module says it; else it drives in them as those of `closed_loop`."""
        from countersteer.recipes import closed_loop

        return getattr(self.module, "on_scenarios", closed_loop.on_scenarios)(recipe, folder, message)

    def read(
        self, words: Sequence[str], how: How, message: Callable[[str], None] = print
    ) -> tuple[Recipe, How]:
        """The recipe with everything that words say: arguments of its function, recordings to drive in, and its fields.

        Args:
            words: Flags and values of a command line.
            how: Flags beside those of the recipe, as a dataclass; `scenarios` in it is a folder for `on_scenarios`.
            message: See `on_scenarios`.

        Returns:
            The recipe, and `how` with what the words say.

        Raises:
            UserError: There is no such flag, it takes no such value, or the recipe cannot be made of them.
        """
        asked = [
            (name, word_type(parameter.annotation, parameter.default), parameter.default)
            for name, parameter in inspect.signature(self.build, eval_str=True).parameters.items()
            if parameter.default is not parameter.empty
        ]
        beside = [("how", Annotated[type(how), tyro.conf.arg(name="")], how), *asked]
        prog, help = f"countersteer train {self.name}", [word for word in words if word in ("-h", "--help")]
        # First what the recipe is built from, then its fields, whose defaults depend on that.
        first, own = (
            dataclasses.make_dataclass("_First", beside),
            [word for word in words if word not in help],
        )
        said, rest = read(first, own, prog=prog, add_help=False, return_unknown_args=True)
        recipe = self.recipe(**{name: getattr(said, name) for name, *_ in asked})
        if getattr(said.how, "scenarios", None) is not None:
            recipe = self.on_scenarios(recipe, said.how.scenarios, message)
        # What was said already is shown by the help too.
        shown = [(name, kind, getattr(said, name)) for name, kind, _ in beside]
        description = inspect.getdoc(self.build) or ""
        recipe = with_fields(recipe, [*rest, *help[:1]], prog, shown, description)
        _check_parts(self.name, recipe.stages[-1])
        return recipe, said.how


def _check_parts(name: str, stage: Any) -> None:
    """The parts of a stage, which its function may have given any value, are dataclasses, and its name can be a folder's."""
    for field in dataclasses.fields(stage):
        value = getattr(stage, field.name)
        if field.name == "name":
            if isinstance(value, str) and value.strip(". ") and value.isprintable() and "/" not in value:
                continue
            expected = "a name: letters, digits, - and _"
        elif (dataclasses.is_dataclass(value) and not isinstance(value, type)) or (
            value is None and field.name in ("expert", "init_from")
        ):
            continue
        else:
            expected = "a spec, a dataclass"
        raise UserError(
            f"{name}: {field.name} of its recipe cannot be that",
            got=f"{value!r:.100}",
            expected=expected,
            fix=f"give {field.name} another value",
        )


def with_fields(
    recipe: Recipe,
    words: Sequence[str],
    prog: str,
    shown: Sequence[tuple[str, Any, Any]] = (),
    description: str = "",
) -> Recipe:
    """A recipe with the fields that words give; those of one of several stages begin with its name. See `override`."""
    single = len(recipe.stages) == 1
    trees = {"" if single else stage.name: stage for stage in recipe.stages}
    stages = override(trees, words, prog, shown=shown, taken=("scenarios",), description=description)
    # The only stage and its recipe have one name.
    return dataclasses.replace(recipe, name=stages[0].name if single else recipe.name, stages=tuple(stages))


def find_recipe(name: str) -> FoundRecipe:
    """The function of a recipe's name, or of file.py:function.

    Raises:
        UserError: There is no such recipe, or the file cannot be run.
    """
    if ":" not in name and not name.endswith(".py"):
        known = known_recipes()
        if name not in known:
            raise UserError(
                f"there is no recipe {name!r}",
                got=name,
                expected=did_you_mean(name, known),
                fix="name a recipe, or a function of your own as my_recipe.py:function",
            )
        module = importlib.import_module(f"countersteer.recipes.{known[name]}")
        return FoundRecipe(name, getattr(module, name), module)
    path, _, function = name.rpartition(":") if ":" in name else (name, "", "")
    file = Path(path)
    if not (function and exists(file) and file.is_file()):
        raise UserError(
            f"no recipe at {name!r}",
            got="no such file" if function else "no function",
            expected="file.py:function",
            fix="check the path and name the function that returns the recipe",
        )
    specification = importlib.util.spec_from_file_location(file.stem, file)
    if specification is None or specification.loader is None:
        raise UserError(f"{file} is no Python file", got=file.suffix, expected="a file.py", fix="rename it")
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    try:
        specification.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{file} cannot be run",
            got=f"{type(error).__name__}: {error}",
            fix="run the file with python to see where",
        ) from None
    found = getattr(module, function, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise UserError(
            f"{file} has no function {function!r}", got=function, expected=did_you_mean(function, names)
        )
    return FoundRecipe(name, found, module, f"{file.resolve()}:{function}")
