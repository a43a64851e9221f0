"""The optimiser of anchors and decoder, and its learning rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch.optim import Adam

from papertrial.errors import BadInputError
from papertrial.scenes.learning_rates import exponential_rate
from papertrial.scenes.scaffold.anchors import Anchors
from papertrial.scenes.scaffold.decoding import Decoder

EPSILON = 1e-15  # Adam's
ITERATIONS = 30_000  # over which the schedules run


class Schedule(NamedTuple):
    """A learning rate that falls exponentially from one value to another."""

    first: float
    last: float


SCHEDULES: Mapping[str, Schedule] = {
    "offsets": Schedule(1e-2, 1e-4),  # times the scene's extent
    "features": Schedule(7.5e-3, 7.5e-3),
    "log_scalings": Schedule(7e-3, 7e-3),
    "opacity": Schedule(2e-3, 2e-5),
    "covariance": Schedule(4e-3, 4e-3),
    "colour": Schedule(8e-3, 5e-5),
    "appearances": Schedule(5e-2, 5e-4),
}


def scaffold_rates(
    decoder: Decoder, extent: float, iterations: int = ITERATIONS, multiplier: float = 1.0
) -> dict[str, Callable[[int], float]]:
    """Return the learning rate of every group that `make_optimizer` makes, as a function of the step.

    Args:
        decoder: tells whether there are appearance vectors.
        extent: of the scene (`cameras.scene_extent`), which scales the rate of the offsets.
        iterations: over which rates fall to their last values.
        multiplier: of all rates.

    Raises:
        BadInputError: an extent or a multiplier that is not above 0, or no iterations.

    Source: Scaffold-GS's released arguments.
    """
    if extent <= 0 or multiplier <= 0:
        raise BadInputError(
            f"the scene's extent and the rates' multiplier must be above 0, got {extent} and {multiplier}"
        )
    rates = {}
    for name, schedule in SCHEDULES.items():
        if name == "appearances" and decoder.appearances is None:
            continue
        scale = multiplier * (extent if name == "offsets" else 1.0)
        rates[name] = exponential_rate(scale * schedule.first, scale * schedule.last, iterations)
    return rates


def make_optimizer(
    anchors: Anchors, decoder: Decoder, rates: Mapping[str, Callable[[int], float]], fused: bool = False
) -> Adam:
    """Return Adam with one named group for each kind of parameter, at the rates of step 0.

    Further parameters of the anchors (`extra_names`) get groups of their own; name their rates too.

    Raises:
        BadInputError: a parameter of the anchors or the decoder without a rate.
    """
    parameters = {
        name: [getattr(anchors, name)]
        for name in ("offsets", "features", "log_scalings", *anchors.extra_names)
    }
    parameters |= {
        name: list(getattr(decoder, name).parameters()) for name in ("opacity", "covariance", "colour")
    }
    if decoder.appearances is not None:
        parameters["appearances"] = [decoder.appearances.weight]
    missing = [name for name in parameters if name not in rates]
    if missing:
        raise BadInputError(f"there is no learning rate for {', '.join(missing)}")
    groups = [{"params": params, "lr": rates[name](0), "name": name} for name, params in parameters.items()]
    return Adam(groups, eps=EPSILON, fused=fused)
