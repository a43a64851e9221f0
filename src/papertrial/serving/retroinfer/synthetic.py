"""Keys, values and queries of one layer, made up: with the structure the method relies on, or without any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import unknown
from papertrial.serving.gathering import gather_rows


@dataclass(frozen=True)
class SyntheticLayer:
    """One layer's cache and the queries of some decode steps, float32.

    Attributes:
        keys, values: (kv heads, tokens, dim).
        queries: (steps, kv heads, group, dim).
    """

    keys: Float[Tensor, "heads tokens dim"]
    values: Float[Tensor, "heads tokens dim"]
    queries: Float[Tensor, "steps heads group dim"]


def make_layer(
    structure: str,
    tokens: int,
    steps: int,
    seed: int,
    kv_heads: int = 2,
    group: int = 4,
    dim: int = 128,
) -> SyntheticLayer:
    """Make one layer of a kind.

    `structured`: a key is a slowly drifting direction, plus one of a few recurring topics that holds for a
    stretch of text, plus noise; values carry their topic. Queries lie near one topic each and move a little
    from step to step, so attention is concentrated on some stretches. `hostile`: keys, values and queries are
    independent and the queries short, so every token gets about the same attention and no few clusters can
    hold it.

    Raises:
        BadInputError: no such kind.
    """
    generator = torch.Generator().manual_seed(seed)
    if structure == "structured":
        return _structured(generator, tokens, steps, kv_heads, group, dim)
    if structure == "hostile":
        return SyntheticLayer(
            keys=torch.randn(kv_heads, tokens, dim, generator=generator),
            values=torch.randn(kv_heads, tokens, dim, generator=generator),
            queries=0.5 * torch.randn(steps, kv_heads, group, dim, generator=generator),
        )
    raise unknown("kind of data", structure, ("structured", "hostile"))


def _structured(
    generator: torch.Generator, tokens: int, steps: int, kv_heads: int, group: int, dim: int
) -> SyntheticLayer:
    stretch, topics = 48, max(16, tokens // 256)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def directions(*shape: int) -> Tensor:
        return torch.nn.functional.normalize(normal(*shape, dim), dim=-1) * dim**0.5

    stretches = -(-tokens // stretch)
    topic = torch.randint(0, topics, (kv_heads, stretches), generator=generator)
    topic_keys, topic_values = directions(kv_heads, topics), directions(kv_heads, topics)
    drift = normal(kv_heads, stretches, dim).cumsum(1) / stretches**0.5

    def along_text(of_stretch: Tensor) -> Tensor:
        return of_stretch.repeat_interleave(stretch, dim=1)[:, :tokens].contiguous()

    keys = along_text(gather_rows(topic_keys, topic) + 0.5 * drift).add_(
        normal(kv_heads, tokens, dim), alpha=0.7
    )
    values = along_text(gather_rows(topic_values, topic)).add_(normal(kv_heads, tokens, dim))
    aims = topic_keys[torch.arange(kv_heads), torch.randint(0, topics, (kv_heads,), generator=generator)]
    steady = aims.unsqueeze(1) + 0.4 * normal(kv_heads, group, dim)
    walk = 0.1 * normal(steps, kv_heads, group, dim).cumsum(0)
    return SyntheticLayer(keys, values, 0.55 * (steady + walk))
