"""Every setting has a range, beside its field or flag; what lies outside is refused before anything is done."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

import countersteer
from countersteer.commands import cli, flags
from countersteer.data.samples import recorded_drive
from countersteer.data.sources import CameraDrive, Mixture, ProceduralRoads
from countersteer.data.traffic_windows import TrafficWindows
from countersteer.drivers.drivers import LinearSchedule, PerturbedDriver, PolicyDriver
from countersteer.errors import UserError
from countersteer.evaluation.population import SelfPlaySuite
from countersteer.evaluation.suites import Case, Suite
from countersteer.experts.teacher import RolloutExpert
from countersteer.geometry.cameras import Camera, Intrinsics
from countersteer.objectives.adaptation import PerceptionAdaptation
from countersteer.objectives.imitation import Imitation
from countersteer.objectives.ppo import PPO
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.policies.weights import Weights
from countersteer.ranges import (
    Count,
    Range,
    Ranged,
    Seed,
    Share,
    declared_types,
    parts_of,
    ranges_of,
)
from countersteer.reconstruction.depth.stereo import StereoPair
from countersteer.reporting.birds_eye import BirdsEye
from countersteer.rewards.progress import ProgressReward
from countersteer.rewards.weights import RewardWeights
from countersteer.scenarios.scenario import RoadMap
from countersteer.serving.agent import NavigationRequest
from countersteer.traffic.tokens.model import TokenTraffic
from countersteer.training.run import check_device
from countersteer.training.stages import OptimSpec, RolloutSpec
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.worlds.bridges.metadrive.roads import Bend, Road, Straight
from countersteer.worlds.renderers.films import RenderedLogs
from countersteer.worlds.simulation.recorded import ValidityCorridor
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.world import WorldSpec

NOT_SET = {
    "data.cameras.road_users:AnnotatedBox": "read from a recording",
    "evaluation.failures:Failure": "a finding",
    "evaluation.metrics.carla:Infractions": "counted in a drive; it checks its shares itself",
    "evaluation.metrics.drive:Lane": "read from a recording",
    "evaluation.metrics.evidence:Finding": "a finding",
    "evaluation.metrics.hugsim:Background": "read from a scene",
    "evaluation.metrics.navsim:EpdmsParts": "parts of a score",
    "evaluation.metrics.navsim:PdmsParts": "parts of a score",
    "evaluation.metrics.navsim_vehicle:BicycleState": "a state",
    "evaluation.metrics.realism:Histogram": "constants of a published metric",
    "evaluation.records:DriveRecord": "recorded of a drive",
    "evaluation.statistics:CompareRow": "a row of results",
    "ranges:_Allowed": "what a field's type says of it",
    "reporting.report:RunInfo": "read from a run",
    "scenarios.coverage:Coverage": "found in a recording",
    "scenarios.network:Lane": "read from a map",
    "scenarios.network:SignalProgram": "read from a map",
    "scenarios.procedural.crossing:Crossing": "drawn by the generator",
    "scenarios.procedural.traffic:TrafficLane": "drawn by the generator",
    "scenarios.scenario:MapFeature": "read from a recording",
    "scenarios.scenario:Recording": "read from a recording",
    "scenarios.scenario:Scenario": "read from a recording; it checks itself",
    "worlds.renderers.boxes.decals:Decal": "a constant of the renderer",
}
"""Frozen dataclasses with numbers that have defaults, but that nobody sets."""
FREE: dict[tuple[str, str], str] = {}
"""Numeric fields of settings that may hold any number, and why."""


def classes() -> Iterator[type]:
    """Every dataclass of the package."""
    for found in pkgutil.walk_packages(countersteer.__path__, "countersteer."):
        if found.name == "countersteer.__main__":
            continue
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError:  # an extra that is not installed
            continue
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == found.name and dataclasses.is_dataclass(kind):
                yield kind


def numeric(kind: type) -> list[dataclasses.Field[Any]]:
    """Its own and inherited fields of which a number can be given."""
    types = declared_types(kind)
    return [f for f in dataclasses.fields(kind) if f.init and {int, float} & {*map_parts(types.get(f.name))}]


def map_parts(declared: Any) -> list[type]:
    if getattr(declared, "__origin__", None) is dict:
        return []
    return [part for part in parts_of(declared) if isinstance(part, type)]


CLASSES = list(classes())
SETTINGS = [kind for kind in CLASSES if issubclass(kind, Ranged) and numeric(kind)]


def test_whatever_has_a_number_with_a_default_is_a_setting_or_says_why_not():
    wrong, used = [], set()
    for kind in CLASSES:
        name = f"{kind.__module__.removeprefix('countersteer.')}:{kind.__name__}"
        given = [f for f in numeric(kind) if f.default is not dataclasses.MISSING]
        if not given or issubclass(kind, Ranged) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            continue
        used.add(name)
        if name not in NOT_SET:
            wrong.append(f"{name} has no ranges: make it a `Ranged`, or say in NOT_SET what it is")
    assert not wrong, "\n".join(wrong)
    assert used == set(NOT_SET), "NOT_SET names what is not there any more"


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_every_numeric_field_of_a_setting_has_a_range(kind):
    missing = [
        f.name for f in numeric(kind) if f.name not in ranges_of(kind) and (kind.__name__, f.name) not in FREE
    ]
    assert not missing, f"{kind.__name__}: {missing}"


CAMERA = Camera()
EXAMPLES: dict[str, Any] = {
    "BirdsEye": lambda: BirdsEye(RoadMap(()), (0.0, 0.0), 10.0, 10),
    "Bend": lambda: Bend(50.0, 1.0, True, 50.0),
    "CameraDrive": lambda: CameraDrive("x", ((0.0, 1.0),)),
    "Case": lambda: Case("x", recorded_drive()),
    "Intrinsics": lambda: Intrinsics(8, 4, 5.0, 5.0, 4.0, 2.0),
    "Mixture": lambda: Mixture((ProceduralRoads(),), (1.0,)),
    "NavigationRequest": lambda: NavigationRequest(10.0),
    "PerceptionAdaptation": lambda: PerceptionAdaptation(Weights("x")),
    "PerturbedDriver": lambda: PerturbedDriver(PolicyDriver()),
    "PPO": lambda: PPO(ProgressReward()),
    "RenderedLogs": lambda: RenderedLogs(CAMERA),
    "Road": lambda: Road((Straight(50.0),), 2),
    "RolloutExpert": lambda: RolloutExpert(Weights("x")),
    "SelfPlaySuite": lambda: SelfPlaySuite(WorldSpec(RoadSimulationSpec()), ()),
    "StereoPair": lambda: StereoPair(Intrinsics(8, 4, 5.0, 5.0, 4.0, 2.0), 0.5),
    "Straight": lambda: Straight(50.0),
    "TokenTraffic": lambda: TokenTraffic(Weights("x")),
    "TrafficWindows": lambda: TrafficWindows(ProceduralRoads()),
    "Suite": lambda: Suite("x", 1, WorldSpec(RoadSimulationSpec()), (), len),  # type: ignore[arg-type]
}


def bent(value: Any, number: float) -> Any:
    """The value with this number in the place of its last one."""
    return (*value[:-1], bent(value[-1], number)) if isinstance(value, tuple) and value else number


@pytest.mark.parametrize(
    "kind", [kind for kind in SETTINGS if not inspect.isabstract(kind)], ids=lambda kind: kind.__name__
)
def test_no_tuple_longer_or_shorter_than_declared_gets_into_a_setting(kind):
    good = EXAMPLES.get(kind.__name__, kind)()
    for field in dataclasses.fields(kind):
        allowed, value = ranges_of(kind).get(field.name), getattr(good, field.name)
        if allowed is None or allowed.length is None or not isinstance(value, tuple):
            continue
        for bad in ((*value, value[-1]), value[:-1]):
            with pytest.raises(UserError, match=rf"{kind.__name__}.{field.name}.* has {len(bad)} values"):
                setattr_frozen(good, field.name, bad)


def test_lengths_are_those_of_the_declared_tuple():
    @dataclass(frozen=True)
    class Some(Ranged):
        pair: Annotated[tuple[float, float], Range("[0, 1]")] = (0.0, 1.0)
        maybe: tuple[Share, Share, Share] | None = None
        many: tuple[Share, ...] = ()
        pairs: tuple[tuple[Share, Share], ...] = ()
        one: Share = 0.0

    lengths = {name: allowed.length for name, allowed in ranges_of(Some).items()}
    assert lengths == {"pair": 2, "maybe": 3, "many": None, "pairs": None, "one": None}
    assert Some(many=(0.5,) * 5, maybe=(0.0, 0.5, 1.0)).maybe is not None


def test_two_cameras_of_a_policy_have_names_of_their_own():
    cameras = CNNPlannerSpec().cameras
    with pytest.raises(UserError, match="one name"):
        CNNPlannerSpec(cameras=(*cameras, cameras[0]))


@pytest.mark.parametrize(
    "kind", [kind for kind in SETTINGS if not inspect.isabstract(kind)], ids=lambda kind: kind.__name__
)
def test_no_number_outside_its_range_gets_into_a_setting(kind):
    good = EXAMPLES.get(kind.__name__, kind)()
    checked = 0
    for name, allowed in ranges_of(kind).items():
        if name not in {f.name for f in dataclasses.fields(kind)}:
            continue
        for bad in (math.nan, math.inf, -math.inf, -1.0, 0.0, 10**9, 10.0**13, 10**23):
            number = bad if not allowed.whole or not float(bad).is_integer() else int(bad)
            if allowed.holds(number) and not (allowed.whole and number != number):
                continue
            with pytest.raises(UserError) as refused:
                setattr_frozen(good, name, bent(getattr(good, name), number))
            assert f"{kind.__name__}.{name}" in refused.value.what
            assert allowed.interval in str(refused.value)
            checked += 1
    assert checked >= 3


def setattr_frozen(good: Any, name: str, value: Any) -> None:
    """A copy of a setting with another field, past the type checker that tests put before every constructor."""
    wrong = object.__new__(type(good))
    for field in dataclasses.fields(good):
        object.__setattr__(wrong, field.name, value if field.name == name else getattr(good, field.name))
    wrong.__post_init__()


@dataclass(frozen=True)
class Sized(Ranged):
    """Has sizes.

    Attributes:
        sizes: Of all.
        share: Of it.
    """

    sizes: tuple[Count, ...] = (1, 2)
    share: Annotated[float | None, Range("(0, pi/1]")] = None
    bound: tuple[Share, Share] | None = None


@dataclass(frozen=True)
class Narrower(Sized):
    sizes: tuple[int, ...] = (3,)
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()


class TestRange:
    @pytest.mark.parametrize(
        ("interval", "inside", "outside"),
        [
            ("[0, 1)", (0, 0.0, 0.999), (1, 1.0, -1e-9, math.nan, math.inf)),
            ("(0, inf)", (1e-300, 1e300), (0, -1, math.inf, math.nan)),
            ("(-inf, inf)", (-1e300, 0, 1e300), (math.inf, -math.inf, math.nan)),
            ("[-pi, pi]", (math.pi, -math.pi), (3.15,)),
            ("[0, 1e18]", (10**18,), (10**18 + 1, 10**23, -1)),
        ],
    )
    def test_holds(self, interval, inside, outside):
        assert all(Range(interval).holds(number) for number in inside)
        assert not any(Range(interval).holds(number) for number in outside)

    def test_a_base_says_the_range_of_what_its_subclasses_declare_again(self):
        assert ranges_of(Narrower).keys() == {"sizes", "share", "bound", "seed"}
        with pytest.raises(UserError, match=r"Narrower.sizes is out of range"):
            Narrower(sizes=(1, 0))

    def test_ranges_hold_in_tuples_and_pass_none(self):
        assert Narrower(bound=None, seed=10**18).bound is None
        with pytest.raises(UserError, match=r"(?s)Narrower.bound.*got: .*2\.0.*a number in \[0, 1\]"):
            Narrower(bound=(0.0, 2.0))
        with pytest.raises(UserError, match=r"a whole number in \[0, 1e18\]"):
            Narrower(seed=12345678901234567890123)

    @pytest.mark.parametrize("value", ["3", b"3", True, 1j, [None, "x"], 3.0])
    def test_what_is_no_number_is_refused(self, value):
        with pytest.raises(UserError, match=r"Narrower.seed is out of range"):
            setattr_frozen(Narrower(), "seed", value)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: RewardWeights(comfort=(1.0, 0.5)), "RewardWeights.comfort"),
        (lambda: VehicleSpec(delay=(0.3, 0.1)), "VehicleSpec.delay"),
        (lambda: StartSpec(set_speed=(1.0, 0.8)), "StartSpec.set_speed"),
        (lambda: StartSpec(goal=(9.0, 5.0)), "StartSpec.goal"),
        (lambda: ValidityCorridor(unseen=(0.1, 0.1, 0.2)), "ValidityCorridor.unseen"),
        (lambda: CNNPlannerSpec(history=(2, 2)), "CNNPlannerSpec.history"),
        (lambda: Imitation(dimension_weight=(0.0, 0.0, 0.0, 0.0)), "Imitation.dimension_weight"),
        (lambda: PerceptionAdaptation(Weights("x"), 0.0, 0.0), "PerceptionAdaptation"),
        (lambda: RolloutSpec(first_iteration_share=7.0), "RolloutSpec.first_iteration_share"),
        (lambda: OptimSpec(learning_rate=-1.0), "OptimSpec.learning_rate"),
        (lambda: LinearSchedule(over=(0.0, 1.5)), "LinearSchedule.over"),
    ],
)
def test_what_two_numbers_say_together_is_checked_too(build, words):
    with pytest.raises(UserError) as refused:
        build()
    assert words in str(refused.value)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_numeric_flag_of_a_command_has_a_range(name):
    run = cli.command(name)
    types = declared_types(run)
    missing = [
        key for key, kind in types.items()
        if key not in ("words", "return") and {int, float} & {*map_parts(kind)} and key not in ranges_of(run)
    ]  # fmt: skip
    assert not missing


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name != "train"])
def test_every_flag_that_names_what_is_written_says_so(name):
    """Then it is tried before anything else is done."""
    types = declared_types(cli.command(name))
    assert types.keys() >= inspect.signature(cli.command(name)).parameters.keys(), "a type cannot be read"
    for key, kind in types.items():
        if key in ("out", "keep", "json", "cache", "pictures"):
            assert any(isinstance(part, flags.Written) for part in parts_of(kind)), key


def test_help_shows_ranges(capsys):
    assert cli.main(["bench", "--help"]) == 0
    assert "a whole number in [1, 64]; default: 1" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )
    assert cli.main(["evaluate", "--help"]) == 0
    assert "a whole number in [0, 1e18]; default: 0" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )
    assert cli.main(["train", "clone", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (
        "Share of the frames that the first iteration gets; the rest is even. (a number in [0, 1]; default:"
        in told
    )
    assert "a number in [0.001, 1]; default: 0.1" in told


@pytest.mark.parametrize("device", ["meta", "mps:x", "", "cuda:99", "cpu:x", "\x1b[2J"])
def test_a_device_that_nothing_is_computed_on_is_refused(device):
    with pytest.raises(UserError, match="cpu"):
        check_device(device)
