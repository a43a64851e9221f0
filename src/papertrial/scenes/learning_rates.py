"""Learning rates that fall exponentially, and how an optimiser's groups follow them by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch.optim import Optimizer

from papertrial.errors import BadInputError

Rate = Callable[[int], float]


def exponential_rate(first: float, last: float, steps: int) -> Rate:
    """Return the learning rate of a step: from `first` to `last` in equal ratios, then `last` for good.

    Args:
        first: rate of step 0.
        last: rate from step `steps` on.
        steps: how many it takes.

    Raises:
        BadInputError: a rate that is not above 0, or no steps.

    Source: arXiv 2308.04079, section 7.1 (positions): linear in the rate's logarithm, without delay.
    """
    if not (0 < first < math.inf and 0 < last < math.inf) or steps < 1:
        raise BadInputError(
            f"an exponential schedule goes from a rate above 0 to another in 1 step or more, "
            f"got {first} to {last} in {steps}"
        )

    def rate(step: int) -> float:
        share = min(max(step / steps, 0.0), 1.0)
        return math.exp((1 - share) * math.log(first) + share * math.log(last))

    return rate


def set_rates(optimizer: Optimizer, rates: Mapping[str, Rate], step: int) -> None:
    """Give each named group of an optimiser the rate of this step; groups that are not named keep theirs.

    Raises:
        BadInputError: a rate for a group that the optimiser does not have.
    """
    groups = {group.get("name"): group for group in optimizer.param_groups}
    for name, rate in rates.items():
        if name not in groups:
            known = ", ".join(str(one) for one in groups if one is not None) or "none with a name"
            raise BadInputError(f"the optimiser has no group {name!r}; it has {known}")
        groups[name]["lr"] = rate(step)
