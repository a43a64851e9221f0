"""GaLore, the baseline: Adam inside the gradient's leading subspace, its direction projected back."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from papertrial.efficient.apollo.checks import as_matrix
from papertrial.efficient.apollo.lowrank import LowRankOptimizer
from papertrial.efficient.apollo.projection import is_wide
from papertrial.efficient.apollo.scaling import adam_direction, bias_correction
from papertrial.errors import BadInputError


class GaLore(LowRankOptimizer):
    """GaLore: moments in a rank-r subspace of the gradient, and updates that never leave it.

    Args:
        params: groups as `param_groups(model, rank=…)` makes them.
        lr: peak learning rate.
        betas: decay of the first and the second moment.
        eps: added to the root of the uncorrected second moment.
        weight_decay: decoupled, on the weight already moved.
        scale: multiplies the update (no root); 0.25 in GaLore's own pre-training recipes.
        proj: `svd`, or `random`, the control that fails in APOLLO's figure 5.
        update_proj_gap: steps between two projections; the moments stay as they are.
        seed: of the random projections, see `Apollo`.
        state_dtype: `float32`, or `gradient`.
        flatten: let a low-rank group hold tensors of more than two dimensions, as matrices.
        check_finite: raise before anything changes if a gradient is not finite.

    Raises:
        BadInputError: an option or a group that cannot work, with the parameter's name.

    Source: arXiv 2403.03507, Algorithm 2; step order as in the code APOLLO was released with.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        scale: float = 0.25,
        proj: str = "svd",
        update_proj_gap: int = 200,
        seed: int = 0,
        state_dtype: str = "float32",
        flatten: bool = False,
        check_finite: bool = True,
    ) -> None:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise BadInputError(f"scale of GaLore must be a number above 0, got {scale!r}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "scale": scale,
            "proj": proj,
            "update_proj_gap": update_proj_gap,
            "seed": seed,
            "draw_on": "cpu",
            "keep_projection": True,
            "state_dtype": state_dtype,
            "flatten": flatten,
            "check_finite": check_finite,
        }
        super().__init__(params, defaults)

    def _step_matrix(self, parameter: Tensor, norms: Tensor, group: dict[str, Any]) -> None:
        """Move the weight by −lr_t · scale · R̃ P (P R̃ for a wide weight), inside one matrix product."""
        state, gradient = self.state[parameter], as_matrix(parameter.grad)  # type: ignore[arg-type]
        projection, projected = self._project(parameter, gradient, group)
        direction = adam_direction(
            projected, state["exp_avg"], state["exp_avg_sq"], betas=group["betas"], eps=group["eps"]
        ).to(parameter.dtype)
        weight = parameter if parameter.ndim == 2 else parameter.view(gradient.shape)
        pair = (projection, direction) if is_wide(gradient.shape) else (direction, projection)
        rate = group["lr"] * bias_correction(state["step"], group["betas"])
        weight.addmm_(*pair, alpha=-rate * group["scale"])
        decay = 1 - group["lr"] * group["weight_decay"]
        if decay != 1:
            weight.mul_(decay)
