"""How self-play is judged: worlds nobody trained on, every car a copy of one policy, beside two rows that cost nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from countersteer.data.sources import ScenarioFolder
from countersteer.drivers.drivers import CategoricalDriver, ConstantVelocityDriver, ExpertDriver
from countersteer.drivers.interface import Driver
from countersteer.errors import UserError
from countersteer.evaluation.population import Population, drive_population
from countersteer.experts.recovery import RecoveryExpert
from countersteer.policies.interface import Policy
from countersteer.policies.storage import load_policy
from countersteer.policies.teacher import SetActorCritic
from countersteer.recipes.self_play import roads, self_play_world, student_driver
from countersteer.reporting.pages import require_ending
from countersteer.reporting.population_film import film_population
from countersteer.reporting.population_report import PopulationRow, write_population_report
from countersteer.reporting.study import pretrained_policy
from countersteer.rewards.weights import RewardWeights
from countersteer.scenarios.scenario import Scenario
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.spec import RoadSettings, StartSpec
from countersteer.worlds.world import WorldSpec

__all__ = ["self_play_report"]

_UNSEEN = 1_000_000  # seed of roads that no recipe trains on
_TURNED = ("collision", "off_road", "velocity", "overspeed")
"""RewardWeights that a teacher is asked for in other amounts."""
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
        conditions: RewardWeights that teachers are also asked for in amounts from end to end of their ranges, the others in the
            middle of theirs; none for a few that matter.
        seed: Of starts and drivers.
        message: Told every row.
        modules: The user's, of recipes of their own.

    Raises:
        UserError: A run holds no policy for it, nobody can drive anywhere, there is no such coefficient, or the
            page is not an .html.
    """
    require_ending(out, "page", ".html", ".htm")
    if worlds < 1:
        raise UserError("there is nothing to drive in", got=f"--worlds {worlds}", expected="at least 1")
    if unknown := sorted(set(conditions or ()) - set(RewardWeights.names())):
        raise UserError(
            f"there is no coefficient {unknown[0]!r}",
            got=", ".join(unknown),
            expected=", ".join(RewardWeights.names()),
            fix="ask for one of these",
        )
    base = dataclasses.replace(
        self_play_world().simulate(vector_dropout=(0.0, 0.0)),
        renderer=BoxRendererSpec(shift=CameraDomainShift() if domain_shift else None),
    )
    runs = runs or [pretrained_policy("self_play"), pretrained_policy("self_play_teacher")]
    drivers = [(run, *load_policy(run, tuple(modules))) for run in runs]
    if scenes is None:
        scenarios = roads(worlds, seed=_UNSEEN).load()
    else:
        settings = base.simulation
        assert isinstance(settings, RoadSettings)
        base = base.simulate(agents=32, min_agents=1, start=StartSpec(goal=settings.start.goal))
        scenarios = [s for s in ScenarioFolder(str(scenes)).load() if _usable(base, s, message)]
        if not scenarios:
            raise UserError(f"nobody can drive in the scenes of {scenes}", fix="choose other scenes")

    def driven(
        name: str,
        spec: WorldSpec,
        driver: Driver,
        policy: Policy | None = None,
        asked: dict[str, float] | None = None,
        than: tuple[str, Population] | None = None,
        **how: object,
    ) -> Population:
        world = spec.build(scenarios, len(scenarios), seed)
        numbers = torch.arange(world.batch)
        # Each recorded scene once, from where it begins.
        starts = None if scenes is None else world.starts_at(numbers, 0 * numbers, numbers, jitter=False)
        found = drive_population(world, driver, policy, seed=seed, starts=starts, **how)  # type: ignore[arg-type]
        rows.append(PopulationRow.of(name, found, asked, than))
        message(str(rows[-1]))
        return found

    rows: list[PopulationRow] = []
    # The same cars begin whoever drives.
    straight = driven("straight on", base, ConstantVelocityDriver())
    cars = np.bincount(straight.scene, minlength=len(scenarios))
    # Where no name says it, traffic lights tell an intersection.
    crossing = max(range(len(scenarios)), key=lambda k: (bool(scenarios[k].signals.lane), int(cars[k])))
    free = ("straight on", straight)
    driven("rules", base, ExpertDriver(), than=free, expert=RecoveryExpert())
    for run, policy, metadata in drivers:
        spec, driver = _seat(base, policy)
        name = f"{metadata['recipe']}, seed {metadata['seed']}"
        known = name in [row.name for row in rows]
        driven(f"{name} ({run.name})" if known else name, spec, driver, policy, than=free)
        if conditions is not None and isinstance(policy, SetActorCritic):
            ranges = policy.spec.reward_weights
            for field in conditions or _TURNED:
                low, high = getattr(ranges, field)
                least: tuple[str, Population] | None = None
                for value in np.linspace(low, high, _LEVELS).tolist():
                    told = dataclasses.replace(_middle(ranges), **{field: (value, value)})
                    title, than = f"{name}, {field} {value:g}", least if value == high else None
                    found = driven(title, spec, driver, policy, {field: value}, than, coefficients=told)
                    least = least or (title, found)

    # A film takes a while, and the numbers are there.
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps([row.to_json() for row in rows], indent=1))
    _, policy, metadata = drivers[0]
    spec, driver = _seat(base, policy)
    scene = next((s for s in scenarios if film_of in s.id), scenarios[crossing])
    title = f"{metadata['recipe']}: every car of {scene.id}"
    film = film_population(spec, scene, driver, policy, title=title, path=out.with_suffix(".mp4"), seed=seed)
    write_population_report(
        out,
        rows,
        where=f"{len(scenarios)} {'generated roads nobody trained on' if scenes is None else 'recorded scenes'}"
        + (", behind cameras that do not show what is drawn" if domain_shift else ""),
        film=film,
        filmed=f"{metadata['recipe']} in {scene.id}",
        commits={str(run): str(metadata["environment"].get("commit")) for run, _, metadata in drivers},
    )
    return rows


def _seat(base: WorldSpec, policy: Policy) -> tuple[WorldSpec, Driver]:
    """The world with what a policy sees, and how it drives."""
    points = policy.spec.target_points > 0
    seen = (*policy.spec.cameras, *((policy.spec.vector,) if policy.spec.vector is not None else ()))
    spec = base.carrying(*seen).simulate(target_points=points, navigation=not points)
    if isinstance(policy, SetActorCritic):
        return spec, CategoricalDriver(greedy=True)
    return spec, student_driver()


def _usable(spec: WorldSpec, scenario: Scenario, message: Callable[[str], None]) -> bool:
    """Whether anybody can drive there; says why not."""
    try:
        world = spec.build([scenario], 1, 0)
    except UserError as error:
        message(f"left out: {str(error).splitlines()[0]}")
        return False
    world.reset(torch.ones(1, dtype=torch.bool), world.draw_starts(torch.zeros(1, dtype=torch.long)))
    if not world.alive().any():
        message(f"left out: nobody can begin in {scenario.id}")
    return bool(world.alive().any())


def _middle(ranges: RewardWeights) -> RewardWeights:
    """Every range shrunk to its middle."""
    middle = zip(RewardWeights.names(), ranges.middle().tolist(), strict=True)
    return RewardWeights(**{name: (amount, amount) for name, amount in middle})
