"""The renderer: the fast kernel against the plain reference, and pictures that must come out as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from countersteer.data.sources import ProceduralRoads
from countersteer.errors import UserError
from countersteer.worlds.interface import Images, Outputs
from countersteer.worlds.renderers.boxes import (
    APPEARANCE_NUMBERS,
    Boxes,
    PixelClass,
    Views,
    default_appearance,
    random_appearance,
    reference,
)
from countersteer.worlds.renderers.boxes.drawing import render
from countersteer.worlds.renderers.boxes.renderer import BoxRenderer
from countersteer.worlds.simulation.ground import GroundBank
from rendering_cases import (
    EVERYTHING,
    a_random_case,
    agreement,
    look_along,
    some_boxes,
    three_roads,
)
from worlds import boxworld


@pytest.fixture(scope="module")
def bank() -> GroundBank:
    return three_roads()


def draw(bank: GroundBank, views: Views, boxes: Boxes) -> Images:
    return render(bank, views, boxes, default_appearance(len(boxes.present)), EVERYTHING)


def test_the_kernel_draws_what_the_reference_draws(bank, record_property):
    pooled: dict[str, list[np.ndarray]] = {}
    shown = set()
    for seed in range(60):
        views, boxes, _ = a_random_case(bank, seed)
        numbers = torch.rand(1, APPEARANCE_NUMBERS, generator=torch.Generator().manual_seed(seed))
        looks = random_appearance(numbers)
        fast = render(bank, views, boxes, looks, EVERYTHING)
        plain = reference.render(bank, views, boxes, looks)
        shown |= set(plain.kind.unique().tolist())
        for name, same in agreement(fast, plain).items():
            pooled.setdefault(name, []).append(same.ravel())
    assert shown == {int(kind) for kind in PixelClass}  # the cases show everything there is
    for name, parts in pooled.items():
        agree = np.concatenate(parts)
        share = float(agree.mean())
        record_property(f"{name}: share of {agree.size} pixels that agree", f"{share:.6f}")
        assert share >= 0.999, f"{name}: {share:.5f} of the pixels agree"


def test_a_box_fills_the_pixels_that_geometry_says_and_has_its_depth(bank):
    views = look_along(bank, width=101, height=51)
    boxes = some_boxes(1, (32.0, 0.0, 1.5, 0.0, 4.0, 1.9, 1.9))  # its rear is 10 m ahead, centred
    images = draw(bank, views, boxes)
    rows, cols = np.nonzero(images.instance[0].numpy() == 100)
    # focal 60 px: half of 1.9 m at 10 m is 5.7 px to each side of the centre of pixel 50 (25)
    assert (cols.min(), cols.max(), rows.min(), rows.max()) == (45, 55, 20, 30)
    assert len(rows) == 11 * 11
    on_box = images.instance[0] == 100
    assert torch.allclose(images.depth[0][on_box], torch.tensor(10.0), rtol=1e-5)
    assert (images.kind[0][on_box] == PixelClass.VEHICLE).all()


def test_ground_depth_and_classes_follow_from_the_plane(bank):
    images = draw(bank, look_along(bank, width=65, height=65), some_boxes(1))
    row = torch.arange(65) + 0.5 - 32.5
    below = row > 0.2
    expected = 1.5 * 60.0 / row[below]
    assert torch.allclose(images.depth[0, below, 32], expected, rtol=1e-4)
    assert images.depth[0, ~below].isinf().all()
    assert (images.kind[0, ~below] == PixelClass.SKY).all()
    assert images.kind[0, -1, 32] == PixelClass.ROAD
    assert images.kind[0, 38, 0] == PixelClass.TERRAIN  # 15 m ahead, 8 m to the left: the road ends at 6.4 m
    # The right line, 1.8 m to the right: at 5 m it is 60 / 5 * 1.8 px beside the centre.
    near = 32 + round(1.5 * 60.0 / 5.0)
    at = (images.depth[0, near, 32] ** -1 * 60.0 * 1.8).item() + 32
    assert images.kind[0, near, round(at)] == PixelClass.MARKING


def test_a_nearer_box_hides_a_farther_one_in_either_order(bank):
    near, far = (28.0, 0.0, 1.0, 0.3, 3.0, 2.0, 2.0), (33.0, 1.5, 1.0, 0.1, 3.0, 2.0, 2.0)
    views = look_along(bank)
    first, second = draw(bank, views, some_boxes(1, near, far)), draw(bank, views, some_boxes(1, far, near))
    assert torch.equal(first.depth, second.depth)
    assert torch.equal(first.rgb, second.rgb)
    assert torch.equal(first.instance == 100, second.instance == 101)
    assert (first.instance == 100).sum() > (first.instance == 101).sum() > 0


@pytest.mark.parametrize("spoil", ["position", "rotation"])
def test_a_pose_that_is_not_finite_gives_the_stated_picture_and_leaves_its_neighbours(bank, spoil):
    views, boxes = look_along(bank, count=3), some_boxes(3, (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0))
    clean = draw(bank, views, boxes)
    getattr(views, spoil)[1, 0] = math.nan
    images = draw(bank, views, boxes)
    assert (images.rgb[1] == 0).all()
    assert (images.kind[1] == PixelClass.SKY).all()
    assert images.depth[1].isinf().all()
    assert (images.instance[1] == -1).all()
    for k in (0, 2):
        assert torch.equal(images.rgb[k], clean.rgb[k])


def test_boxes_that_are_absent_behind_around_or_broken_are_not_drawn(bank):
    views = look_along(bank)
    bare = draw(bank, views, some_boxes(1))
    boxes = some_boxes(
        1,
        (10.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0),  # behind the camera
        (20.5, 0.0, 1.0, 0.7, 4.0, 2.0, 3.0),  # around it
        (30.0, 0.0, 1.0, 0.0, math.nan, 2.0, 2.0),
        (30.0, math.inf, 1.0, 0.0, 4.0, 2.0, 2.0),
        (30.0, 0.0, 1.0, 0.0, 4.0, 0.0, 2.0),
        (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0),  # not present
        (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0),  # the car that carries the camera
    )
    boxes.present[0, 5] = False
    views.ego_slot[0] = 6
    images = draw(bank, views, boxes)
    assert torch.equal(images.kind, bare.kind)
    assert torch.equal(images.depth, bare.depth)
    boxes.present[0, 5] = True
    assert (draw(bank, views, boxes).instance == 105).any()  # the same box, present, is drawn


def test_asking_for_one_picture_gives_what_asking_for_all_gives(bank):
    views, boxes = look_along(bank), some_boxes(1, (30.0, 1.0, 1.0, 0.4, 4.0, 2.0, 2.0))
    every, looks = draw(bank, views, boxes), default_appearance(1)
    for name in ("rgb", "depth", "kind", "instance"):
        alone = render(bank, views, boxes, looks, Outputs(**{n: n == name for n in vars(EVERYTHING)}))
        assert torch.equal(getattr(alone, name), getattr(every, name))
        assert all(getattr(alone, other) is None for other in vars(EVERYTHING) if other != name)


def test_grey_is_brightness(bank):
    import cv2

    images = draw(bank, look_along(bank), some_boxes(1, (30.0, 1.0, 1.0, 0.4, 4.0, 2.0, 2.0)))
    expected = cv2.cvtColor(images.rgb[0].numpy(), cv2.COLOR_RGB2GRAY)
    assert images.grey.shape == images.kind.shape
    assert np.abs(images.grey[0].numpy().astype(int) - expected).max() <= 1
    assert (
        render(bank, look_along(bank), some_boxes(1), default_appearance(1), Outputs(rgb=False)).grey is None
    )


def test_a_line_keeps_its_paint_with_distance_instead_of_flickering(bank):
    """Its paint in a row, summed over columns, is its width in pixels, however small that is."""
    views = look_along(bank, width=400, height=100)
    looks = default_appearance(1)
    looks = looks.replace(
        road=torch.zeros(1, 3), terrain=torch.zeros(1, 3), yellow=torch.zeros(1, 3), paint=torch.ones(1)
    )
    looks = looks.replace(white=torch.full((1, 3), 255.0), visibility=torch.full((1,), 1e9))
    images = render(bank, views, some_boxes(1), looks, EVERYTHING)
    for row in range(58, 92, 3):  # 12 to 2 m: nothing but the solid line lies to the right of the centre
        depth = float(images.depth[0, row, 250])
        drawn = float(images.rgb[0, row, 200:, 0].float().sum()) / 255
        assert drawn == pytest.approx(0.15 * 60.0 / depth, rel=0.1), f"{depth:.1f} m ahead"


def test_looks_are_a_function_of_their_numbers_and_differ(bank):
    numbers = torch.rand(2, APPEARANCE_NUMBERS, generator=torch.Generator().manual_seed(1))
    again = random_appearance(numbers)
    both = random_appearance(numbers).flatten()
    assert all(torch.equal(value, both[name]) for name, value in again.flatten().items())
    assert not torch.equal(again.road[0], again.road[1])
    plain = random_appearance(numbers, strength=0.0).flatten()
    for name, value in default_appearance(2).flatten().items():
        assert torch.allclose(value, plain[name], atol=1e-5), name
    for colour in (again.sky, again.terrain, again.road, again.white, again.colours):
        assert ((colour >= 0) & (colour <= 255)).all()
    with pytest.raises(UserError, match="too few numbers"):
        random_appearance(numbers[:, :5])


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [("scene", 3, "views.scene"), ("world", 1, "views.world"), ("ego_slot", 1, "views.ego_slot")],
)
def test_an_index_out_of_range_is_refused_by_name(bank, field, value, named):
    views, boxes = look_along(bank), some_boxes(1, (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0))
    getattr(views, field)[0] = value
    with pytest.raises(UserError, match=named):
        draw(bank, views, boxes)


def test_no_views_give_no_pictures(bank):
    images = draw(bank, look_along(bank, count=0), some_boxes(0, (30.0, 0.0, 1.0, 0.0, 4.0, 2.0, 2.0)))
    assert images.rgb.shape == (0, 48, 96, 3)


def test_what_cars_see_is_put_together_on_one_device_without_reading_values():
    """Torch's "meta" device stands for a GPU: it holds no values, and refuses tensors of the CPU beside its own."""
    world = boxworld().build(ProceduralRoads(count=1, traffic=(1, 2), length=300.0).load(), 2, 0)
    renderer = BoxRenderer(world.spec.renderer, world.simulation.ground, world.cameras, 0, "meta")
    scene = world.simulation.scene(world.state.simulation).to("meta")
    state = renderer.begin(scene)
    views, boxes = renderer.views(state, scene, world.cameras[0]), renderer.boxes(state, scene)
    values = [*vars(views).values(), *boxes.flatten().values(), *state.flatten().values()]
    assert {value.device.type for value in values if isinstance(value, torch.Tensor)} == {"meta"}
    with pytest.raises(UserError, match="where its tensors lie"):
        render(world.simulation.ground, views, boxes, state.look)
