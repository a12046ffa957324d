"""How self-play is judged: worlds nobody trained on, every car a copy of one policy, beside two rows that cost nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from countersteer.drivers.drivers import CategoricalDriver, ConstantVelocityDriver, ExpertDriver
from countersteer.errors import UserError, write_results
from countersteer.evaluation.population import Population, SelfPlaySuite
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.replay import save_replay
from countersteer.experts.recovery import RecoveryExpert
from countersteer.policies.interface import Policy
from countersteer.policies.storage import load_policy
from countersteer.policies.teacher import SetActorCritic
from countersteer.recipes.recordings import drivable_scenarios
from countersteer.recipes.self_play import roads, self_play_world, student_driver
from countersteer.reporting.pages import require_ending
from countersteer.reporting.population_film import FILM_CAMERAS, ego_of, film_population
from countersteer.reporting.population_report import PopulationRow, write_population_report
from countersteer.reporting.run_report import pretrained_policy
from countersteer.rewards.weights import RewardWeights
from countersteer.scenarios.scenario import Scenario
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.spec import RoadSettings, StartSpec

__all__ = ["self_play_report"]

_UNSEEN = 1_000_000  # seed of roads that no recipe trains on
_TURNED = ("collision", "off_road", "velocity", "overspeed")
"""Reward weights that a teacher is asked for in other amounts."""
_LEVELS = 5  # amounts, from the one end of a range to the other


def self_play_report(
    runs: Sequence[Path],
    out: Path,
    *,
    worlds: int = 60,
    scenes: Path | None = None,
    film_of: str = "intersection",
    domain_shift: bool = False,
    conditions: Sequence[str] | None = None,
    seed: int = 0,
    keep: Path | None = None,
    message: Callable[[str], None],
    modules: Sequence[ModuleType] = (),
) -> list[PopulationRow]:
    """Drive "straight", "rules" and every run in the same worlds, and write a page with the table and a film.

    A teacher drives by its likeliest choice; of a student's copies one tracks its plan and the others take their likeliest
    jerks, as they learned to. "Rules" follow their paths behind whoever is ahead, with the truth before their eyes.

    Args:
        runs: Run folders or policy files of teachers and students; the first is filmed. Of none the shipped ones.
        out: The page (.html).
        worlds: How many generated roads.
        scenes: Folder of recorded scenes to drive instead, each once; cars count that have at least 10 m of recorded way, stand on
            the road and overlap nobody at the start.
        film_of: Part of the name of the scene that is filmed; if none is called so, the one with traffic lights and the
            most cars.
        domain_shift: Whether cameras show what they would behind a `CameraDomainShift`.
        conditions: Reward weights that teachers are also asked for in amounts from end to end of their ranges, the others in the
            middle of theirs; none for a few that matter.
        seed: Of starts and drivers.
        keep: Replay of the first run's drives.
        message: Told every row.
        modules: The user's, of recipes of their own.

    Raises:
        UserError: A run holds no policy for it, nobody can drive anywhere, there is no such coefficient, or the
            page is not an .html.
    """
    require_ending(out, "page", ".html", ".htm")
    _check_conditions(conditions or ())
    runs = runs or [pretrained_policy("self_play"), pretrained_policy("self_play_teacher")]
    drivers = [_Run(run, *load_policy(run, tuple(modules))) for run in runs]
    suite = _suite(worlds, scenes, domain_shift, seed, message)
    rows, straight, kept = _drive_all(suite, drivers, conditions, keep is not None, message)

    # A film takes a while, and the numbers are there.
    table = json.dumps([row.to_json() for row in rows], indent=1)
    write_results(
        (out.with_suffix(".json"), lambda place: place.write_text(table)),
        *(((keep, lambda place: save_replay(kept, place)),) if kept is not None else ()),
    )
    first, path = drivers[0], out.with_suffix(".mp4")
    scene = _scene(suite.scenarios, film_of, straight)
    film = _film(dataclasses.replace(suite, scenarios=(scene,)), first, path)
    kind = "generated roads nobody trained on" if scenes is None else "recorded scenes"
    write_population_report(
        out,
        rows,
        where=f"{len(suite.scenarios)} {kind}"
        + (", behind cameras that do not show what is drawn" if domain_shift else ""),
        film=film,
        filmed=f"{first.recipe} in {scene.id}",
        commits={str(one.path): str(one.metadata["environment"].get("commit")) for one in drivers},
    )
    return rows


def _check_conditions(names: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(RewardWeights.names())):
        raise UserError(
            f"there is no coefficient {unknown[0]!r}",
            got=", ".join(unknown),
            expected=", ".join(RewardWeights.names()),
            fix="ask for one of these",
        )


@dataclass(frozen=True)
class _Run:
    """A trained policy, and how it drives."""

    path: Path
    policy: Policy
    metadata: dict[str, Any]

    @property
    def recipe(self) -> str:
        return self.metadata["recipe"]

    def drive(self, suite: SelfPlaySuite, name: str, **how: Any) -> SuiteResult:
        teacher = isinstance(self.policy, SetActorCritic)
        driver = CategoricalDriver(greedy=True) if teacher else student_driver()
        return suite.drive(name, driver, self.policy, **how)


def _drive_all(
    suite: SelfPlaySuite,
    runs: Sequence[_Run],
    conditions: Sequence[str] | None,
    keep: bool,
    message: Callable[[str], None],
) -> tuple[list[PopulationRow], Population, SuiteResult | None]:
    """A row a driver, what became of the cars that went straight on, and the drives of the first run, if they are kept."""
    rows: list[PopulationRow] = []
    kept: SuiteResult | None = None

    def row(
        result: SuiteResult,
        than: tuple[str, Population] | None = None,
        asked: dict[str, float] | None = None,
    ) -> Population:
        found = Population.of(suite, result)
        rows.append(PopulationRow.of(result.driver, found, asked, than))
        message(str(rows[-1]))
        return found

    # The same cars begin whoever drives.
    straight = row(suite.drive("straight on", ConstantVelocityDriver()))
    free = ("straight on", straight)
    row(suite.drive("rules", ExpertDriver(), expert=RecoveryExpert()), free)
    for run in runs:
        name = f"{run.recipe}, seed {run.metadata['seed']}"
        if name in [each.name for each in rows]:
            name = f"{name} ({run.path.name})"
        result = run.drive(suite, name)
        row(result, free)
        if keep and run is runs[0]:
            kept = result
        if conditions is not None and isinstance(run.policy, SetActorCritic):
            for field in conditions or _TURNED:
                least: tuple[str, Population] | None = None
                amounts = _turned(run.policy.spec.reward_weights, field)
                for value, told in amounts:
                    result = run.drive(suite, f"{name}, {field} {value:g}", coefficients=told)
                    than = least if value == amounts[-1][0] else None
                    found = row(result, than, {field: value})
                    least = least or (result.driver, found)
    return rows, straight, kept


def _suite(
    worlds: int, scenes: Path | None, domain_shift: bool, seed: int, message: Callable[[str], None]
) -> SelfPlaySuite:
    """Generated roads, or the scenes of a folder in which somebody can drive."""
    base = dataclasses.replace(
        self_play_world().simulate(vector_dropout=(0.0, 0.0)),
        renderer=BoxRendererSpec(shift=CameraDomainShift() if domain_shift else None),
    )
    if scenes is None:
        return SelfPlaySuite(base, tuple(roads(worlds, seed=_UNSEEN).load()), seed=seed)
    settings = base.simulation
    assert isinstance(settings, RoadSettings)
    base = base.simulate(agents=32, min_agents=1, start=StartSpec(goal=settings.start.goal))
    scenarios = tuple(drivable_scenarios(scenes, base, message).load())
    return SelfPlaySuite(base, scenarios, recorded=True, seed=seed)


def _scene(scenarios: Sequence[Scenario], name: str, found: Population) -> Scenario:
    """The first scenario called so; else, as traffic lights tell an intersection, the one with lights and most cars."""
    cars = np.bincount(found.scene, minlength=len(scenarios))
    most = max(range(len(scenarios)), key=lambda k: (bool(scenarios[k].signals.lane), int(cars[k])))
    return next((scenario for scenario in scenarios if name in scenario.id), scenarios[most])


def _film(suite: SelfPlaySuite, run: _Run, path: Path) -> Path:
    """Film the suite's only scene; it is driven once to see who is in the middle, and once with the cameras of that car."""
    title = f"{run.recipe}: every car of {suite.scenarios[0].id}"
    records = run.drive(suite, title).records
    ego = ego_of(records)
    filmed = run.drive(suite, title, cameras=FILM_CAMERAS, viewer=records[ego].slot)
    return film_population(filmed.records, ego, title=title, path=path)


def _turned(ranges: RewardWeights, field: str) -> list[tuple[float, RewardWeights]]:
    """Amounts of one coefficient from end to end of its range, the others in the middle of theirs."""
    low, high = getattr(ranges, field)
    middle = zip(RewardWeights.names(), ranges.middle().tolist(), strict=True)
    rest = RewardWeights(**{name: (amount, amount) for name, amount in middle})
    return [
        (value, dataclasses.replace(rest, **{field: (value, value)}))
        for value in np.linspace(low, high, _LEVELS).tolist()
    ]
