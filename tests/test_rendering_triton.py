"""The GPU path of the renderer: against the plain reference, and what it promises where it cannot check.

Without a GPU the kernels run in Triton's interpreter, which is slow and forgiving: another test compiles them.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

# Triton reads this when it is imported.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton, which the GPU path is written in, is not installed")

from countersteer.geometry.cameras import ego_from_camera  # noqa: E402
from countersteer.worlds.interface import Images, Outputs  # noqa: E402
from countersteer.worlds.renderers.boxes import (  # noqa: E402
    APPEARANCE_NUMBERS,
    Appearance,
    Boxes,
    PixelClass,
    Views,
    default_appearance,
    random_appearance,
    reference,
    triton_kernels,
)
from countersteer.worlds.renderers.boxes.drawing import render  # noqa: E402
from countersteer.worlds.simulation.ground import GroundBank  # noqa: E402
from rendering_cases import (  # noqa: E402
    EVERYTHING,
    a_random_case,
    agreement,
    look_along,
    some_boxes,
    three_roads,
)

# The interpreter computes with numpy, which warns of what masked lanes divide; a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

WHOLE = (64, 64)  # the interpreter's time is one of programs, not of pixels


@pytest.fixture(scope="module")
def bank() -> GroundBank:
    return three_roads()


def draw(
    bank: GroundBank,
    views: Views,
    boxes: Boxes,
    looks: Appearance | None = None,
    outputs: Outputs = EVERYTHING,
    block: tuple[int, int] = WHOLE,
) -> Images:
    """Pictures of the GPU path, on the CPU."""
    looks = default_appearance(len(boxes.present)) if looks is None else looks
    there = {
        name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value
        for name, value in vars(views).items()
    }
    images = triton_kernels.draw_images(
        bank.to(DEVICE), Views(**there), boxes.to(DEVICE), looks.to(DEVICE), outputs, block
    )
    return Images(**{name: None if value is None else value.cpu() for name, value in vars(images).items()})


def above_paint(views: Views, seed: int) -> None:
    """Move the camera to where the straight road has a stop line, a crossing, a dash and a double line."""
    rng = np.random.default_rng(seed)
    views.scene[0] = 0
    views.position[0] = torch.tensor([rng.uniform(65, 90), rng.uniform(-2, 6), rng.uniform(0.4, 4)])
    rotation = ego_from_camera(rng.uniform(-0.5, 0.5), rng.uniform(0.1, 0.9), rng.uniform(-3.1, 3.1))
    views.rotation[0] = torch.tensor(rotation)


def test_the_gpu_path_draws_what_the_reference_draws(bank, record_property):
    pooled: dict[str, list[np.ndarray]] = {}
    shown = set()
    for seed in range(20):
        views, boxes, _ = a_random_case(bank, seed, largest=65)
        if seed % 3 == 0:
            above_paint(views, seed)
        numbers = torch.rand(1, APPEARANCE_NUMBERS, generator=torch.Generator().manual_seed(seed))
        looks = random_appearance(numbers)
        fast = draw(bank, views, boxes, looks)
        plain = reference.render(bank, views, boxes, looks)
        shown |= set(plain.kind.unique().tolist())
        for name, same in agreement(fast, plain).items():
            pooled.setdefault(name, []).append(same.ravel())
    assert shown == {int(kind) for kind in PixelClass}  # the cases show everything there is
    for name, parts in pooled.items():
        agree = np.concatenate(parts)
        share = float(agree.mean())
        record_property(f"{name}: share of {agree.size} pixels that agree", round(share, 6))
        assert share >= 0.999, f"{name}: {share:.5f} of the pixels agree"


def test_several_views_of_several_worlds_are_drawn_each_as_on_the_cpu(bank):
    """Scenes, worlds and slots are looked up for each view; more boxes than are placed together."""
    cases = [a_random_case(bank, seed) for seed in (0, 7, 9)]
    slots = 40
    boxes = Boxes.cat(
        [
            each.map(lambda leaf: torch.cat([leaf] * slots, 1)[:, :slots])  # every box twice or more
            for _, each, _ in cases
            if each.present.shape[1]
        ]
    )
    assert len(boxes.present) == 3
    parts = [cases[k][0] for k in (2, 0, 1, 0)]
    views = Views(
        width=50,
        height=30,
        world=torch.tensor([2, 0, 1, 0]),
        **{
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("scene", "position", "rotation", "focal", "ego_slot")
        },
    )
    views.position[:, 2] += torch.arange(4)
    looks = random_appearance(torch.rand(3, APPEARANCE_NUMBERS, generator=torch.Generator().manual_seed(5)))
    cpu = render(bank, views, boxes, looks, EVERYTHING)
    for name, same in agreement(draw(bank, views, boxes, looks), cpu).items():
        assert same.mean() >= 0.998, name
    assert (cpu.instance >= 0).any((1, 2)).sum() >= 3  # there is something to see


def test_small_blocks_change_no_pixel(bank):
    """A box or shadow left out of a block that it reaches would."""
    views, boxes, _ = a_random_case(bank, 0, largest=50)
    whole, small = draw(bank, views, boxes), draw(bank, views, boxes, block=triton_kernels.BLOCK)
    for name in vars(EVERYTHING):
        assert torch.equal(getattr(small, name), getattr(whole, name)), name


@pytest.mark.parametrize(
    "spoil",
    [
        {"position": math.nan},
        {"rotation": math.inf},
        {"focal": 0.0},
        {"scene": 3},
        {"scene": -1},
        {"world": 3},
        {"world": -1},
    ],
    ids=str,
)
def test_a_broken_view_gives_the_stated_picture_and_leaves_its_neighbours(bank, spoil):
    views = look_along(bank, width=32, height=16, count=3)
    boxes = some_boxes(3, (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0))
    clean = draw(bank, views, boxes)
    for name, value in spoil.items():
        getattr(views, name)[1] = value
    images = draw(bank, views, boxes)
    assert (images.rgb[1] == 0).all()
    assert (images.kind[1] == PixelClass.SKY).all()
    assert images.depth[1].isinf().all()
    assert (images.instance[1] == -1).all()
    for name in vars(EVERYTHING):
        assert torch.equal(getattr(images, name)[::2], getattr(clean, name)[::2]), name


def test_boxes_that_are_absent_behind_around_or_broken_are_not_drawn(bank):
    views = look_along(bank)
    boxes = some_boxes(
        1,
        (10.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0),  # behind the camera
        (20.5, 0.0, 1.0, 0.7, 4.0, 2.0, 3.0),  # around it
        (30.0, 0.0, 1.0, 0.0, math.nan, 2.0, 2.0),
        (30.0, math.inf, 1.0, 0.0, 4.0, 2.0, 2.0),
        (30.0, 0.0, 1.0, 0.0, 4.0, 0.0, 2.0),
        (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0),  # not present
        (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0),  # the car that carries the camera
        (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0),  # of a colour that there is not
    )
    boxes.present[0, 5] = False
    boxes.colour[0, 7] = 99
    views.ego_slot[0] = 6
    images = draw(bank, views, boxes)
    assert (images.instance == -1).all()
    assert torch.equal(images.depth, draw(bank, views, some_boxes(1)).depth)
    views.ego_slot[0] = 99  # names nothing, so nothing is hidden
    assert (draw(bank, views, boxes).instance == 106).any()


def test_a_box_that_reaches_past_the_camera_is_cut_at_the_near_plane(bank):
    """Beside the camera, across its plane, from 4 m behind to 6 m ahead; and a wall that begins within 0.1 m."""
    views = look_along(bank, width=48, height=32, yaw=0.4)
    for row in ((21.0, 1.2, 1.0, 0.0, 10.0, 1.0, 3.0), (22.05, 0.5, 1.0, 0.0, 4.0, 3.0, 2.5)):
        boxes = some_boxes(1, row)
        plain = reference.render(bank, views, boxes, default_appearance(1))
        for name, same in agreement(draw(bank, views, boxes), plain).items():
            assert same.mean() >= 0.998, name


def test_asking_for_one_picture_gives_what_asking_for_all_gives(bank):
    views, boxes = look_along(bank, width=40, height=30), some_boxes(1, (30.0, 1.0, 1.0, 0.4, 4.0, 2.0, 2.0))
    every = draw(bank, views, boxes)
    for name in vars(EVERYTHING):
        alone = draw(bank, views, boxes, outputs=Outputs(**{n: n == name for n in vars(EVERYTHING)}))
        assert torch.equal(getattr(alone, name), getattr(every, name))
        assert all(getattr(alone, other) is None for other in vars(EVERYTHING) if other != name)


def test_no_views_and_no_boxes_are_fine(bank):
    images = draw(bank, look_along(bank, count=0), some_boxes(0, (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0)))
    assert images.rgb.shape == (0, 48, 96, 3)
    images = draw(bank, look_along(bank, width=1, height=9), some_boxes(1))
    assert images.depth.shape == (1, 9, 1)
    assert (images.instance == -1).all()


COMPILE = """
import sys, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from countersteer.worlds.interface import Outputs
from countersteer.worlds.renderers.boxes import default_appearance, triton_kernels
from rendering_cases import look_along, some_boxes, three_roads

TYPES = {"float32": "fp32", "float64": "fp64", "int32": "i32", "int64": "i64", "uint8": "u8"}

class Compiling:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return self

    def __call__(self, *arguments, num_warps, enable_fp_fusion, **constants):
        names = [name for name in self.kernel.arg_names if name not in constants]
        assert len(names) == len(arguments)
        kinds = ["*" + TYPES[str(a.dtype)[6:]] if isinstance(a, torch.Tensor) else "i32" for a in arguments]
        signature = {**dict(zip(names, kinds)), **dict.fromkeys(constants, "constexpr")}
        signature = {name: signature[name] for name in self.kernel.arg_names}
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constants)
        options = {"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion}
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
        print("compiled", self.kernel.__name__, len(compiled.asm["ptx"]))

for name in ("_place", "_draw_block"):
    setattr(triton_kernels, name, Compiling(getattr(triton_kernels, name)))
bank = three_roads()
for outputs in (Outputs(True, True, True, True), Outputs(False, True, False, True), Outputs(False, False, True, False)):
    triton_kernels.draw_images(bank, look_along(bank), some_boxes(1), default_appearance(1), outputs)
"""


def test_the_kernels_compile_for_a_gpu(tmp_path):
    """The interpreter runs much that the compiler refuses; compiling needs no GPU."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:triton", "-c", COMPILE],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("compiled") == 6
