"""What APOLLO and GaLore share: groups of two kinds, gradients checked first, state that survives saving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from papertrial.efficient.apollo.checks import (
    as_matrix,
    check_finite,
    check_low_rank,
    check_options,
    matrix_shape,
    parameter_name,
    warn_of_small_rate,
)
from papertrial.efficient.apollo.dense import step_dense
from papertrial.efficient.apollo.projection import (
    draw_projection,
    first_seed,
    next_seed,
    project,
    projection_shape,
    svd_projection,
)
from papertrial.efficient.apollo.scaling import tensor_norm
from papertrial.errors import BadInputError

_RANK_READ_WITH_NORMS = 8  # a projection this narrow is read from memory, not computed: one read serves both


class LowRankOptimizer(torch.optim.Optimizer):
    """An optimiser whose groups with a `rank` keep low-rank moments, and whose other groups are AdamW.

    Subclasses say how a low-rank weight moves. The state holds tensors and ints only.

    Args:
        params: parameter groups, as `param_groups` makes them; at least one carries `rank`.
        defaults: what groups that do not set an option get.

    Raises:
        BadInputError: at construction, for groups that cannot work; NonFiniteGradientError from `step`.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self._projections: dict[Tensor, Tensor] = {}
        self._projected: dict[Tensor, Tensor] = {}
        check_options(defaults, "the optimizer")
        super().__init__(params, defaults)
        if not any("rank" in group for group in self.param_groups):
            raise BadInputError(
                f"{type(self).__name__} got no group with a 'rank', so it would be plain AdamW; make the groups "
                "with papertrial.efficient.apollo.param_groups(model, rank=…)"
            )
        warn_of_small_rate(defaults["lr"], type(self).__name__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._projections = {}
        self._projected = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; one with a `rank` is low-rank.

        Raises:
            BadInputError: a rank outside 1 … min(a, b), a low-rank tensor that is no matrix, an unknown
                option, a sharded tensor.
        """
        before = sum(len(group["params"]) for group in self.param_groups)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["first_number"] = before + 1
        try:
            check_options(group, f"parameter group {len(self.param_groups) - 1}")
            if "rank" in group:
                for index, parameter in enumerate(group["params"]):
                    check_low_rank(parameter, parameter_name(group, index), group)
        except BadInputError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved state bit by bit; moments keep the dtype they were saved in."""
        super().load_state_dict(state_dict)
        saved = [key for group in state_dict["param_groups"] for key in group["params"]]
        own = [parameter for group in self.param_groups for parameter in group["params"]]
        for key, parameter in zip(saved, own, strict=True):
            for name, value in state_dict["state"].get(key, {}).items():
                if isinstance(value, Tensor):  # torch's loader would round float32 moments to a bf16 weight
                    self.state[parameter][name] = value.to(parameter.device, copy=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Advance every parameter that has a gradient; the others and their step counters stand still.

        Raises:
            NonFiniteGradientError: some gradient is not finite; then no weight and no state has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step([(group, range(len(group["params"]))) for group in self.param_groups])
        return loss

    @torch.no_grad()
    def step_parameter(self, parameter: Tensor) -> None:
        """Advance one parameter alone, as the layer-wise mode does inside the backward pass."""
        for group in self.param_groups:
            for index, candidate in enumerate(group["params"]):
                if candidate is parameter:
                    self._step([(group, range(index, index + 1))])
                    return
        raise BadInputError(f"a parameter of shape {tuple(parameter.shape)} is not in this optimizer")

    def state_bytes(self) -> int:
        """Return the bytes of all tensors of the saved state (a seed or a step counter is an int beside)."""
        return sum(_bytes(value) for state in self.state.values() for value in state.values())

    def cache_bytes(self) -> int:
        """Return the bytes of projections kept in memory though their seed could redraw them."""
        return sum(_bytes(projection) for projection in self._projections.values())

    def _step(self, work: list[tuple[dict[str, Any], range]]) -> None:
        present = [
            (group, [index for index in indices if group["params"][index].grad is not None])
            for group, indices in work
        ]
        norms = self._read_gradients(present)
        for group, indices in present:
            for index in indices:
                self._prepare_state(group, index)
            if "rank" in group:
                for index in indices:
                    self._step_matrix(group["params"][index], norms[group["params"][index]], group)
            elif indices:
                parameters = [group["params"][index] for index in indices]
                step_dense(
                    parameters, [p.grad for p in parameters], [self.state[p] for p in parameters], group
                )

    def _read_gradients(self, present: list[tuple[dict[str, Any], list[int]]]) -> dict[Tensor, Tensor]:
        """Return each gradient's norms, having seen that they are finite.

        One read of every gradient serves the check, the norms that scaling and limiter need, and, while the
        gradient is in the processor's cache, a narrow projection.
        """
        norms, places = {}, {}
        self._projected.clear()
        for group, indices in present:
            for index in indices:
                parameter = group["params"][index]
                places[parameter] = group, index
                if parameter.grad.is_sparse:
                    raise BadInputError(
                        f"{parameter_name(group, index)} has a sparse gradient; only dense ones are supported"
                    )
                if "rank" in group:
                    gradient = as_matrix(parameter.grad)
                    norms[parameter] = self._gradient_norms(gradient, group)
                    if self._projection_stays(parameter, group):
                        self._projected[parameter] = project(gradient, self._projections[parameter])
                elif self.defaults["check_finite"]:
                    norms[parameter] = tensor_norm(parameter.grad)
        if self.defaults["check_finite"]:
            check_finite(norms, places)
        return norms

    def _prepare_state(self, group: dict[str, Any], index: int) -> None:
        parameter = group["params"][index]
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            low_rank = "rank" in group
            moments = self._moment_shape(parameter, group) if low_rank else parameter.shape
            dtype = parameter.grad.dtype
            if group["state_dtype"] == "float32":
                dtype = torch.promote_types(dtype, torch.float32)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros(moments, dtype=dtype, device=parameter.device)
            if low_rank and group["proj"] == "random":
                state["seed"] = first_seed(group["first_number"] + index, group["seed"])
        state["step"] += 1

    def _moment_shape(self, parameter: Tensor, group: dict[str, Any]) -> tuple[int, int]:
        rows, columns = matrix_shape(parameter)
        return (group["rank"], columns) if rows < columns else (rows, group["rank"])

    def _projection(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the current projection: cached, redrawn from its seed, or fresh every T steps.

        The state keeps the seed that drew the *current* projection and advances it only at the next
        draw, so that a resumed run redraws the right one.
        """
        state = self.state[parameter]
        steps_done = state["step"] - 1
        refresh = steps_done % group["update_proj_gap"] == 0
        if group["proj"] == "svd":
            if refresh:
                state["projection"] = svd_projection(gradient, group["rank"])
            return state["projection"]
        if refresh:
            self._projections.pop(parameter, None)
            if steps_done > 0:
                state["seed"] = next_seed(state["seed"])
        projection = self._projections.get(parameter)
        if projection is None:
            projection = draw_projection(
                state["seed"],
                projection_shape((gradient.shape[0], gradient.shape[1]), group["rank"]),
                group["rank"],
                dtype=gradient.dtype,
                device=gradient.device,
                draw_on=group["draw_on"],
            )
            if group["keep_projection"]:
                self._projections[parameter] = projection
        return projection

    def _projection_stays(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        """Return whether the coming step uses a narrow projection that is at hand already."""
        if group["rank"] > _RANK_READ_WITH_NORMS or parameter not in self._projections:
            return False
        return self.state[parameter]["step"] % group["update_proj_gap"] != 0

    def _project(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the current projection and the gradient under it."""
        projection = self._projection(parameter, gradient, group)
        projected = self._projected.pop(parameter, None)
        return projection, project(gradient, projection) if projected is None else projected

    def _gradient_norms(self, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Return what the subclass's step wants to know of the gradient's norms."""
        return tensor_norm(gradient)

    def _step_matrix(self, parameter: Tensor, norms: Tensor, group: dict[str, Any]) -> None:
        """Move one low-rank parameter; its state is there and `step` counts this step already."""
        raise NotImplementedError


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
