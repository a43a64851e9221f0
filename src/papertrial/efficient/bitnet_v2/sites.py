"""What quantisers are given: outliers measured at a model's sites, and planted where none are trained.

A site is the input of one linear layer, right before its quantiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from papertrial.efficient.bitnet_v2.linear import BitLinear, bit_linears
from papertrial.efficient.bitnet_v2.quantizers import activation_codes
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class SiteStatistics:
    """How one site looks to the quantiser, over all tokens.

    Attributes:
        int4_error: ||Q4(x) - x||² / ||x||².
        int8_error: the same with 8 bits.
        kurtosis: of the values of a token, averaged over tokens; 3 for normal values.
        clipped: share of values beyond INT4's range.
    """

    int4_error: float
    int8_error: float
    kurtosis: float
    clipped: float


def quantization_error(x: Float[Tensor, "tokens features"], bits: int) -> float:
    """Return ||Q(x) - x||² / ||x||², all tokens together; 0 where x is zero."""
    codes, scale = activation_codes(x, bits)
    wide = x.detach().double()
    lost = (codes * scale.double() - wide).square().sum()
    return float(lost / wide.square().sum().clamp(min=1e-300))


def describe_site(x: Float[Tensor, "tokens features"]) -> SiteStatistics:
    """Return the statistics of values as they come to a quantiser."""
    wide = x.detach().double()
    centred = wide - wide.mean(-1, keepdim=True)
    spread = centred.square().mean(-1)
    kurtosis = (centred.pow(4).mean(-1) / spread.square().clamp(min=1e-300)).mean()
    steps = wide / activation_codes(x, 4)[1].double().clamp(min=1e-300)
    clipped = ((steps > 7.5) | (steps < -8.5)).double().mean()
    return SiteStatistics(quantization_error(x, 4), quantization_error(x, 8), float(kurtosis), float(clipped))


def site_statistics(model: nn.Module, tokens: Int64[Tensor, "blocks length"]) -> dict[str, SiteStatistics]:
    """Return the statistics of every BitLinear's site of a model on `tokens`, by layer name."""
    seen: dict[str, list[Tensor]] = {}
    hooks = []

    def watch(name: str) -> Callable[[BitLinear, tuple[Tensor, ...]], None]:
        def take(layer: BitLinear, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(name, []).append(layer.site(inputs[0]).detach().flatten(0, -2).float())

        return take

    for name, layer in bit_linears(model).items():
        hooks.append(layer.register_forward_pre_hook(watch(name)))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(input_ids=tokens, use_cache=False)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: describe_site(torch.cat(values)) for name, values in seen.items()}


def planted_outliers(
    tokens: int, features: int, *, channels: int = 4, size: float = 30.0, seed: int = 0
) -> Float[Tensor, "tokens features"]:
    """Return normal values with `channels` of the features `size` times as large: what breaks INT4.

    Raises:
        BadInputError: more outlier channels than features.
    """
    if not 0 <= channels <= features:
        raise BadInputError(f"channels must be between 0 and features = {features}, got {channels}")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, features, generator=generator)
    x[:, torch.randperm(features, generator=generator)[:channels]] *= size
    return x


def heavy_tails(tokens: int, features: int, *, seed: int = 0) -> Float[Tensor, "tokens features"]:
    """Return products of two normal values, as a gated feed-forward makes them: kurtosis 9."""
    generator = torch.Generator().manual_seed(seed)
    gate, up = torch.randn(2, tokens, features, generator=generator)
    return gate * up
