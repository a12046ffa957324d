"""A collector whose actors are Ray's: processes on this machine or on others, which drive while the learner learns.

After IMPALA (Espeholt et al. 2018) as comma.ai uses it (arXiv 2504.19077, section 5.1): an actor takes the newest weights
when its rollout begins and keeps them to its end. Here rounds are handed out in order, as many ahead as there are
actors; so which weights drove a round is the same in every run, and the same request gives the same rollout inline.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from typing import Any

from countersteer.errors import MissingExtraError, UserError
from countersteer.rollouts.rollout import Rollout
from countersteer.training.collector import Collector, InlineCollector, RolloutRequest
from countersteer.training.stages import ClosedLoop

__all__ = ["RayCollector"]

_TRIES = 3  # of one round, before the fault is taken to be its own


class RayCollector(Collector):
    """Collects with actors of Ray; a local Ray is started if none is connected.

    While round n is learned from, rounds up to n + actors - 1 are driven, with the weights of when each was handed
    out. An actor that dies, as it starts or later, costs the rollout it was driving: it is replaced, and that round
    is driven anew with the weights of now.

    Args:
        stage: What to build. Its parts must be importable where the actors run.
        seed: Of worlds and drivers.
        device: Where worlds and policies of the actors live: "cpu", or "cuda" for the GPUs that Ray has, shared by all actors.
        actors: How many, at least 1; each builds the world and takes one core.

    Attributes:
        lost: Rounds whose actor died, in order.

    Raises:
        MissingExtraError: Ray is not installed.
        UserError: There are no actors, or no GPU for them.
    """

    def __init__(self, stage: ClosedLoop, seed: int, device: str = "cpu", actors: int = 2):
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise MissingExtraError("ray", "ray") from error
        if actors < 1:
            raise UserError("nobody would drive", got=f"{actors} actors", expected="at least 1")
        self.stage, self.seed, self.device, self._ray = stage, seed, device, ray
        self._started = not ray.is_initialized()
        if self._started:
            _start(ray, actors)
        self._gpus = _gpus_each(ray, device, actors)
        self._actors = [self._actor() for _ in range(actors)]
        self._driving: dict[int, tuple[int, Any]] = {}  # by round: actor, promise
        self.lost: list[int] = []

    def _actor(self) -> Any:
        return self._ray.remote(num_cpus=1, num_gpus=self._gpus)(_Actor).remote(
            self.stage, self.seed, self.device
        )

    def _hand_out(self, number: int, request: RolloutRequest) -> None:
        free = set(range(len(self._actors))) - {actor for actor, _ in self._driving.values()}
        chosen = min(free)
        self._driving[number] = chosen, self._actors[chosen].collect.remote(request)

    def collect(self, request: RolloutRequest) -> Rollout:
        """See `Collector.collect`; of a round that was handed out earlier, what those weights drove."""
        wanted = request.iteration_in(self.stage)
        if RolloutRequest.of_iteration(self.stage, wanted, 0, None).frames != request.frames:
            return self._ask(0, lambda actor: actor.collect.remote(request))  # of no round
        last = min(wanted + len(self._actors), self.stage.rollouts.iterations)
        for number in range(wanted, last):
            if number not in self._driving:
                due = RolloutRequest.of_iteration(self.stage, number, request.version, request.weights)
                self._hand_out(number, due)
        number, promise = self._driving.pop(wanted)

        def again(actor: Any) -> Any:
            self.lost.append(wanted)
            return actor.collect.remote(request)

        return self._ask(number, again, promise)

    def _ask(self, number: int, ask: Callable[[Any], Any], promise: Any = None) -> Any:
        """What an actor answers, or the one that replaces it; `promise` is what was asked already."""
        told = ""
        for _ in range(_TRIES):
            try:
                return self._ray.get(promise if promise is not None else ask(self._actors[number]))
            except self._ray.exceptions.RayActorError as error:
                told = " ".join(str(error).split())[-300:]
                self._ray.kill(self._actors[number])  # one that cannot be reached may still live
                self._actors[number] = self._actor()
                promise = None
        raise UserError(
            f"stage {self.stage.name!r} cannot be driven by actors of Ray",
            got=f"actors that died {_TRIES} times: {told}",
            expected="an actor that lives through a rollout",
            fix="collect inline to see why; memory is the usual reason",
        )

    def fingerprints(self) -> dict[str, str]:
        """See `Collector.fingerprints`."""
        return self._ask(0, lambda actor: actor.fingerprints.remote())

    def close(self) -> None:
        """End the actors, and Ray if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()


def _gpus_each(ray: Any, device: str, actors: int) -> float:
    """Share of a GPU that an actor asks for; one that asks for none sees none."""
    if device == "cpu":
        return 0.0
    found = float(ray.cluster_resources().get("GPU", 0.0))
    if device != "cuda" or found < 1.0:
        raise UserError(
            "actors of Ray cannot drive there",
            got=f"device {device!r}, and {found:g} GPUs that Ray has",
            expected="cpu, or cuda where Ray has a GPU, which says which actor gets which",
            fix="choose --actor-device cpu or cuda, or --actors 0",
        )
    return min(1.0, math.floor(1e4 * found / actors) / 1e4)  # as finely as Ray shares


def _start(ray: Any, actors: int) -> None:
    """Begin a local Ray, which puts its own handler of SIGTERM where it finds the main thread."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    ray.init(num_cpus=actors, include_dashboard=False, log_to_driver=False)
    if main:
        signal.signal(signal.SIGTERM, before)


class _Actor(InlineCollector):
    """In a process of its own, with one core."""

    def __init__(self, stage: ClosedLoop, seed: int, device: str):
        import torch

        torch.set_num_threads(1)
        super().__init__(stage, seed, device)
        self.kept_on = "cpu"  # it travels
