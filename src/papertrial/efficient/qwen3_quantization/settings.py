"""What to do to a model: one frozen record for all methods, checked before any weight is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from papertrial.efficient.packing import PACKED_BITS
from papertrial.efficient.qwen3_quantization.awq import AwqOptions
from papertrial.efficient.qwen3_quantization.billm import BillmOptions, Saliency
from papertrial.efficient.qwen3_quantization.gptq import GptqOptions, GridOrder
from papertrial.efficient.qwen3_quantization.grids import GridOptions
from papertrial.errors import BadInputError, unknown

Method = Literal["rtn", "gptq", "awq", "smoothquant", "rtn_wa", "billm"]
"""The study's methods. `rtn_wa` rounds weights and activations without smoothing, which is what the released
"SmoothQuant" script does, read as it stands."""

NEED_CALIBRATION: tuple[Method, ...] = ("gptq", "awq", "smoothquant", "billm")


@dataclass(frozen=True)
class QuantizationSettings:
    """A method and how it runs; the defaults are the study's.

    Attributes:
        method: see `Method`.
        bits: 2, 3, 4 or 8; not used by billm, whose weights take one bit and their masks.
        group_size: input channels that share a scale; −1 for one scale a row. smoothquant and rtn_wa
            always have one scale a row, and billm blocks of its own.
        activation_bits: bits of each token's activations (smoothquant and rtn_wa; 8 where not given).
        symmetric: mirror grids about zero (rtn, gptq).
        search: rtn: shrink each grid's range to the one with the least error.
        act_order: gptq: channels by falling activity.
        static_groups: gptq: grids of groups fitted beforehand, groups consecutive.
        grid_order: gptq: whether grids that cover rows are fitted before dead channels are zeroed (as
            released) or after.
        damping: gptq and billm.
        block: gptq and billm: columns corrected together.
        true_sequential: gptq: look at a layer's inputs again after each set of matrices.
        ratios: awq: exponents tried.
        clip: awq: search clipping limits.
        clip_tokens: awq: tokens that decide on a limit.
        search_tokens: awq: tokens that decide on scales; all if None, as in the released code.
        alpha: smoothquant: how much of the outliers goes into the weights.
        saliency: billm: "magnitude" (released) or "hessian".
        scale_dtype: the format in which scales are stored, "float16", "bfloat16" or "float32". billm in float32
            is as released, and cannot be packed.
    """

    method: Method = "gptq"
    bits: int = 4
    group_size: int = 128
    activation_bits: int | None = None
    symmetric: bool = False
    search: bool = False
    act_order: bool = True
    static_groups: bool = False
    grid_order: GridOrder = "released"
    damping: float = 0.01
    block: int = 128
    true_sequential: bool = True
    ratios: int = 20
    clip: bool = True
    clip_tokens: int = 512
    search_tokens: int | None = 512
    alpha: float = 0.5
    saliency: Saliency = "magnitude"
    scale_dtype: str = "float16"

    def check(self) -> None:
        """Raise `BadInputError` for settings that no model could take."""
        if self.method not in get_args(Method):
            raise unknown("quantisation method", self.method, get_args(Method))
        if self.bits not in PACKED_BITS and self.method != "billm":
            raise BadInputError(
                f"bits must be one of {', '.join(map(str, PACKED_BITS))} (about one bit is method billm's), "
                f"got {self.bits}"
            )
        if self.scale_dtype not in ("float16", "bfloat16", "float32"):
            raise BadInputError(f"scale_dtype must be float16, bfloat16 or float32, got {self.scale_dtype!r}")
        if self.grid_order not in get_args(GridOrder):
            raise unknown("grid_order", self.grid_order, get_args(GridOrder))
        rounds_activations = self.method in ("smoothquant", "rtn_wa")
        if self.activation_bits is not None and not rounds_activations:
            raise BadInputError(f"activation_bits is for smoothquant and rtn_wa, not for {self.method}")
        if self.activation_bits is not None and not 2 <= self.activation_bits <= 16:
            raise BadInputError(f"activation_bits must lie between 2 and 16, got {self.activation_bits}")
        if not 0.0 <= self.alpha <= 1.0:
            raise BadInputError(f"alpha must lie between 0 and 1, got {self.alpha}")
        self.grid()
        for make in (self.gptq, self.awq, self.billm):
            make()

    def grid(self) -> GridOptions:
        """Return the grid of the method's codes."""
        bits = self.bits if self.bits in PACKED_BITS else 4
        scale_dtype = self._stored_scales
        if self.method == "billm":  # it has no grid; blocks of columns of its own
            return GridOptions(bits, -1)
        if self.method in ("smoothquant", "rtn_wa"):  # per output channel, as published
            return GridOptions(bits, -1, "absmax", scale_dtype=scale_dtype)
        if self.method == "awq":
            return GridOptions(bits, self.group_size, "free", scale_dtype=scale_dtype)
        rule: Literal["symmetric", "minmax"] = "symmetric" if self.symmetric else "minmax"
        return GridOptions(bits, self.group_size, rule, self.search and self.method == "rtn", scale_dtype)

    @property
    def _stored_scales(self) -> torch.dtype | None:
        """The format that scales are rounded to; None leaves them in float32, in which all is computed."""
        stored: torch.dtype = getattr(torch, self.scale_dtype)
        return None if stored == torch.float32 else stored

    def gptq(self) -> GptqOptions:
        """Return GPTQ's options."""
        return GptqOptions(
            self.grid(), self.act_order, self.damping, self.block, self.static_groups, self.grid_order
        )

    def awq(self) -> AwqOptions:
        """Return AWQ's options."""
        return AwqOptions(
            self.grid(),
            self.ratios,
            self.clip,
            clip_tokens=self.clip_tokens,
            search_tokens=self.search_tokens,
        )

    def billm(self) -> BillmOptions:
        """Return BiLLM's options."""
        return BillmOptions(self.saliency, self.block, self.damping, self._stored_scales)

    @property
    def rounded_activation_bits(self) -> int | None:
        """Bits of the activations where the method rounds them, else None."""
        return (self.activation_bits or 8) if self.method in ("smoothquant", "rtn_wa") else None
