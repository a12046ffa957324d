"""Parts of `gpu.py` that ask whether what a GPU computes is right: each beside the CPU's kernels or the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from gpu_parts import SEED, Row, Settings, actions_of, driven


def _agreement(ours: Any, theirs: Any) -> Row:
    """Shares of the pixels that agree: colours to a level, depth to a thousandth, classes and instances exactly."""
    near = (ours.depth - theirs.depth).abs() <= 1e-3 * theirs.depth
    found = {
        "rgb": ((ours.rgb.int() - theirs.rgb.int()).abs() <= 1).all(-1),
        "depth": near | (ours.depth == theirs.depth),
        "kind": ours.kind == theirs.kind,
        "instance": ours.instance == theirs.instance,
    }
    return {name: float(same.double().mean()) for name, same in found.items()}


def pictures_parity(at: Settings) -> Iterator[Row]:
    """Pictures of the GPU's kernels beside those of the reference and of the CPU's kernels."""
    from countersteer.evaluation.speed import all_around
    from countersteer.worlds.interface import Images, Outputs
    from countersteer.worlds.renderers.boxes import reference, triton_kernels
    from countersteer.worlds.renderers.boxes.drawing import render

    every = Outputs(rgb=True, depth=True, kind=True, instance=True)
    for width, height in at.pick([(32, 16)], [(64, 32), (128, 64), (256, 128)]):
        cameras = all_around(at.pick(1, 4), width, height)
        world = driven(at.pick(1, 8), at.pick(2, 8), cameras)
        for action in actions_of(world, 3):
            world.step(action)
        renderer, state = world.renderer, world.state.renderer
        scene = world.simulation.scene(world.state.simulation)
        for camera in cameras[:2]:
            views, boxes = renderer.views(state, scene, camera), renderer.boxes(state, scene)

            def there(views: Any, device: str) -> Any:
                leaves = {name: getattr(value, "to", lambda _, value=value: value)(device) for name, value in vars(views).items()}  # fmt: skip
                return dataclasses.replace(views, **leaves)

            drawn = triton_kernels.draw_images(
                renderer.ground.to(at.device),
                there(views, at.device),
                boxes.to(at.device),
                state.look.to(at.device),
                every,
                *([(64, 64)] if at.device == "cpu" else []),  # the interpreter takes time for each block
            )
            on_gpu = Images(
                **{name: None if leaf is None else leaf.cpu() for name, leaf in vars(drawn).items()}
            )
            by_kernel = render(renderer.ground, views, boxes, state.look, every)
            few = min(len(views.scene), at.pick(1, 4))
            first = {
                name: leaf if isinstance(leaf, int) else leaf[:few] for name, leaf in vars(views).items()
            }
            plain = reference.render(renderer.ground, dataclasses.replace(views, **first), boxes, state.look)
            head = Images(
                **{name: None if leaf is None else leaf[:few] for name, leaf in vars(on_gpu).items()}
            )
            yield {
                "size": f"{width}x{height}",
                "camera": camera.name,
                "pictures": len(views.scene),
                "with_kernel": _agreement(on_gpu, by_kernel),
                "of_reference": few,
                "with_reference": _agreement(head, plain),
            }


def stepping_parity(at: Settings) -> Iterator[Row]:
    """A tick, its events and the vector observation by PyTorch on the device, beside the CPU's kernels from the same state."""
    import torch

    from countersteer.traffic.idm import IDM
    from countersteer.worlds.backend import Backend
    from countersteer.worlds.sensors.vector import VectorSpec

    for traffic in (None, IDM()):
        settings: Row = {"traffic": traffic, "target_points": True, "navigation": True}
        batch = at.pick(2, 64), at.pick(3, 8)
        ours = driven(*batch, (VectorSpec(),), at.device, backend=Backend.TORCH, **settings)
        theirs = driven(*batch, (VectorSpec(),), backend=Backend.KERNEL, **settings)
        largest: dict[str, float] = {}
        other: dict[str, int] = {}
        here = {name: leaf.cpu() for name, leaf in ours.save().items()}
        _compare("start", here, theirs.save(), largest, other)
        ticks = at.pick(3, 60)
        for mine, yours in zip(actions_of(ours, ticks), actions_of(theirs, ticks), strict=True):
            # From one state each time, or what is rounded once would be driven apart.
            ours.restore({name: leaf.to(at.device) for name, leaf in theirs.save().items()})
            events, expected = ours.step(mine), theirs.step(yours)
            for name, got, want in (
                ("events", events, expected),
                ("truth", ours.truth(), theirs.truth()),
                ("observation", ours.observe(), theirs.observe()),
                ("state", ours.state, theirs.state),
            ):
                _compare(name, got.to("cpu").flatten(), want.flatten(), largest, other)
        cars = theirs.batch * theirs.agents * ticks
        worst = dict(sorted(largest.items(), key=lambda each: -each[1])[:12])
        yield {
            "traffic": "replay" if traffic is None else "idm",
            "cars": cars,
            "largest_differences": worst,
            "other_choices": {name: count for name, count in other.items() if count},
            "finite": bool(torch.tensor(list(largest.values())).isfinite().all()),
        }


def _compare(
    name: str,
    got: Mapping[str, Any],
    want: Mapping[str, Any],
    largest: dict[str, float],
    other: dict[str, int],
) -> None:
    """Note how far numbers are apart, and how many whole numbers and flags differ."""
    for key, leaf in want.items():
        mine, where = got[key], f"{name}.{key}"
        if leaf.dtype.is_floating_point:
            same = (mine == leaf) | (mine.isnan() & leaf.isnan())
            apart = (mine.double() - leaf.double()).abs().masked_fill(same, 0.0)
            largest[where] = max(largest.get(where, 0.0), float(apart.max()) if apart.numel() else 0.0)
        else:
            other[where] = other.get(where, 0) + int((mine != leaf).sum())


def policies_parity(at: Settings) -> Iterator[Row]:
    """What policies answer on the device, beside the CPU, convolutions with and without TF32."""
    import copy

    import torch

    from countersteer.evaluation.speed import all_around
    from countersteer.policies.planner import CNNPlannerSpec
    from countersteer.policies.teacher import SetActorCriticSpec
    from countersteer.policies.vit import ViTPlannerSpec
    from countersteer.worlds.sensors.vector import VectorSpec

    cameras = all_around(1, *at.pick((32, 16), (128, 64)))
    world = driven(at.pick(1, 16), at.pick(2, 8), (*cameras, VectorSpec()))
    seen, batch = world.observe(), (world.batch, world.agents)
    specs = (
        CNNPlannerSpec(cameras=cameras),
        ViTPlannerSpec(cameras=cameras, target_points=0),
        SetActorCriticSpec(vector=VectorSpec()),
    )
    for spec in specs:
        torch.manual_seed(SEED)
        policy = spec.build().eval()
        there = copy.deepcopy(policy).to(at.device)
        with torch.no_grad():
            want = policy.act(policy.encode(seen), policy.initial_memory(batch)).flatten()
            for tf32 in (False, True):
                torch.backends.cudnn.allow_tf32 = tf32
                features = there.encode(seen.to(at.device))
                answer = there.act(features, there.initial_memory(batch, at.device))
                largest: dict[str, float] = {}
                _compare("answer", {k: v.cpu() for k, v in answer.flatten().items()}, want, largest, {})
                yield {"policy": type(spec).__name__, "tf32": tf32, "largest_differences": largest}
