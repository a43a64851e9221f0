"""Small networks with weights of their own for every head, run for all heads at once."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papertrial.errors import BadInputError


class HeadwiseLinear(nn.Module):
    """One linear map for each head: (batch, heads, tokens, in) → (batch, heads, tokens, out).

    Attributes:
        weight: (heads, out, in), each drawn as `nn.Linear` draws its own.
        bias: (heads, out), or None.
    """

    def __init__(self, heads: int, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(heads, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Float[Tensor, "batch heads tokens in"]) -> Float[Tensor, "batch heads tokens out"]:
        """Map every head's tokens by its own weights: one batched product over the heads."""
        batch, heads, tokens, inputs = x.shape
        flat = x.transpose(0, 1).reshape(heads, batch * tokens, inputs)
        weight = self.weight.transpose(1, 2)
        out = flat @ weight if self.bias is None else torch.baddbmm(self.bias.unsqueeze(1), flat, weight)
        return out.view(heads, batch, tokens, -1).transpose(0, 1)


class HeadwiseNorm(nn.Module):
    """RMSNorm with a gain of its own for each head."""

    def __init__(self, heads: int, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, 1, width))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "batch heads tokens width"]
    ) -> Float[Tensor, "batch heads tokens width"]:
        """Divide every row by its root mean square, in float32."""
        return functional.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(x.dtype) * self.weight


class GinNetwork(nn.Module):
    """The MLP of GIN-Attention: in → ⌊γ·in⌋ → dropout → RMSNorm → SiLU → in, for each head.

    Raises:
        BadInputError: a multiplier that leaves no hidden unit.

    Source: arXiv 2501.02393, fig. 1; Attention_GNN.py, LlamaAttentionGIN.
    """

    def __init__(self, heads: int, width: int, multiplier: float, dropout: float, eps: float) -> None:
        super().__init__()
        hidden = hidden_width(width, multiplier)
        self.up = HeadwiseLinear(heads, width, hidden)
        self.dropout = dropout
        self.norm = HeadwiseNorm(heads, hidden, eps)
        self.down = HeadwiseLinear(heads, hidden, width)

    def forward(
        self, x: Float[Tensor, "batch heads tokens width"]
    ) -> Float[Tensor, "batch heads tokens width"]:
        """Map every token's features."""
        hidden = functional.dropout(self.up(x), self.dropout, self.training)
        return self.down(functional.silu(self.norm(hidden)))


class PnaNetwork(nn.Module):
    """The map of PNA-Attention: 4·in → ⌊γ·in⌋ → SiLU → in, for each head.

    Source: Attention_GNN.py, LlamaAttentionPNA.
    """

    def __init__(self, heads: int, width: int, multiplier: float, bias: bool) -> None:
        super().__init__()
        hidden = hidden_width(width, multiplier)
        self.up = HeadwiseLinear(heads, 4 * width, hidden, bias)
        self.down = HeadwiseLinear(heads, hidden, width, bias)

    def forward(
        self, x: Float[Tensor, "batch heads tokens four_widths"]
    ) -> Float[Tensor, "batch heads tokens width"]:
        """Map every token's four aggregates."""
        return self.down(functional.silu(self.up(x)))


def hidden_width(width: int, multiplier: float) -> int:
    """Return ⌊γ · width⌋.

    Raises:
        BadInputError: it is below 1.
    """
    hidden = int(multiplier * width)
    if hidden < 1:
        raise BadInputError(f"multiplier {multiplier} of a head of width {width} leaves no hidden unit")
    return hidden
