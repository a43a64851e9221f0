"""Graph attention beside plain attention and beside layers built as the released ones are, on the CPU.

    python bench/graph_attention.py            # one layer, forward and backward, interleaved; Markdown
    python bench/graph_attention.py --long     # top-k over 1 k to 4 k tokens: lists of neighbours, the whole map

The released package does not import on transformers 5 (and needs torch_scatter, which is compiled on
installation), so its layers stand in graph_attention_released.py again, in their own manner. Both compute the same
numbers as ours (checked first, gradients too). Each comparison is made twice: of the graph part alone, from an
adjacency and features to what the heads hand on, and of the whole module, whose projections, scores and softmax both
have alike; their time bounds what any graph part can do for the whole. One thread; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graph_attention_released import ListedSparseGin, LoopedGin, LoopedPna
from papertrial.efficient.graph_attention import (
    GinSettings,
    PnaSettings,
    Processing,
    SparseGinSettings,
    use_graph_attention,
)
from papertrial.efficient.graph_attention.adjacency import visible_pairs
from papertrial.efficient.graph_attention.sparse_gin import SparseGin
from papertrial.models import load_causal_lm

PLAIN, OURS, ALIKE = "plain eager attention", "ours", "what both have alike"
Contestant = Callable[[], Tensor]


@dataclass
class Comparison:
    """One table.

    Attributes:
        title: above it.
        ways: contestants by name; each makes an output.
        leaves: inputs, whose gradients are compared and cleared.
        released: names of the contestants that ours is held against.
        rounds: how often all run.
    """

    title: str
    ways: dict[str, Contestant]
    leaves: tuple[Tensor, ...]
    released: tuple[str, ...]
    rounds: int = 15


class Layers:
    """One layer of each kind, their inputs, and the comparisons between them."""

    def __init__(self, batch: int, length: int, hidden: int, heads: int) -> None:
        self.shape = (batch, length, hidden, heads)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(batch, length, hidden, generator=generator, requires_grad=True)
        self.mask = visible_pairs(None, batch, length, length, self.x.device)
        self.additive = torch.zeros(batch, 1, length, length).masked_fill(
            ~self.mask, torch.finfo(torch.float32).min
        )
        plain = self.decoder(None)
        self.positions = plain.model.rotary_emb(self.x, torch.arange(length)[None])
        self.attention = plain.model.layers[0].self_attn

    def decoder(self, settings: GinSettings | PnaSettings | None) -> nn.Module:
        """Return a model of one layer, its attention exchanged."""
        _, _, hidden, heads = self.shape
        model = load_causal_lm(
            "tiny-llama",
            vocab_size=16,
            num_hidden_layers=1,
            hidden_size=hidden,
            intermediate_size=hidden,
            num_attention_heads=heads,
            num_key_value_heads=heads,
        )
        model.set_attn_implementation("eager")
        if settings is not None:
            use_graph_attention(model, settings)
        return model.eval()

    def attended(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Return a module's output and its map of weights."""
        return module(hidden_states=self.x, position_embeddings=self.positions, attention_mask=self.additive)

    def scores(self, module: nn.Module) -> Tensor:
        """Return the masked scores of a module's queries and keys, as plain attention has them."""
        query, key = module.turned(module.q_proj, module.k_proj, self.x, self.positions)
        return query @ key.transpose(2, 3) * module.scaling + self.additive

    def gin(self) -> list[Comparison]:
        """Compare GIN-Attention: a loop over heads, or all heads at once."""
        module = self.decoder(GinSettings()).model.layers[0].self_attn
        looped = LoopedGin(module)
        nn.init.normal_(module.own_weight)
        A, X = self.inputs(self.scores(module).softmax(-1), module.cut_features(self.x))

        def ours() -> Tensor:
            heard = module.own_weight * X + A @ X
            return module.network(heard).transpose(1, 2).reshape(self.x.shape)

        def weights() -> Tensor:
            return (self.scores(module) * module.sharpness).softmax(-1)

        name = "as released, a loop over heads"
        part = {OURS: ours, name: lambda: looped(A, X)}
        whole = {
            PLAIN: lambda: self.attended(self.attention)[0],
            OURS: lambda: self.attended(module)[0],
            name: lambda: looped(weights(), module.cut_features(self.x)),
            ALIKE: weights,
        }
        return [
            Comparison("GIN-Attention, the graph part", part, (A, X), (name,)),
            Comparison("GIN-Attention, whole module", whole, (self.x,), (name,)),
        ]

    def pna(self, kind: str) -> list[Comparison]:
        """Compare PNA-Attention with weights of one kind: all earlier tokens are neighbours, or some of them."""
        module = self.decoder(PnaSettings(weights=kind)).model.layers[0].self_attn
        looped = {
            "as released, a loop over heads": LoopedPna(module, True),
            "the same without its unused minimum": LoopedPna(module, False),
        }

        def weights() -> Tensor:
            scores = self.scores(module)
            return scores.softmax(-1) if kind == "softmax" else scores.relu()

        def mixed(joined: Tensor) -> Tensor:
            return module.o_proj(joined)

        def values() -> Tensor:
            return module.project(module.v_proj, self.x)

        A, V = self.inputs(weights(), values())
        part = {OURS: lambda: self.flat(module._mapped(module._aggregates(A, V, V), V.dtype))}
        whole = {PLAIN: lambda: self.attended(self.attention)[0], OURS: lambda: self.attended(module)[0]}
        for name, one in looped.items():
            part[name] = lambda one=one: one(A, V)
            whole[name] = lambda one=one: mixed(one(weights(), values()))
        # as if nobody heard anybody: the output projection reads the values
        whole[ALIKE] = lambda: mixed(self.flat(values())) + weights().mean()
        return [
            Comparison(f"PNA-Attention, {kind}: the graph part", part, (A, V), tuple(looped), 5),
            Comparison(f"PNA-Attention, {kind}: whole module", whole, (self.x,), tuple(looped), 5),
        ]

    def sparse_gin(self, title: str, settings: SparseGinSettings) -> list[Comparison]:
        """Compare the adapter: a product with the map, or lists of edges."""
        _, _, hidden, heads = self.shape
        adapter = SparseGin(hidden, heads, 0.5, settings).eval()
        listed = ListedSparseGin(adapter)
        one = adapter.rounds[0]
        nn.init.normal_(one.own_weight)
        graph = adapter.graph(self.attended(self.attention)[1], self.mask)
        graph, X = self.inputs(
            graph, adapter.input_projection(self.x)
        )  # upper layers' graphs have a gradient
        share = int((graph != 0).sum()) / int(self.mask.sum())
        name = "as released, lists of edges"
        part = {OURS: lambda: one.own_weight * X + graph @ X, name: lambda: listed.graph_part(X, graph)}

        def alike() -> Tensor:
            x = adapter.input_projection(self.x)
            x = adapter.activation(one.down(adapter.activation(one.up(x))) + x)
            return adapter.scale * adapter.norm(adapter.output_projection(x))

        whole = {
            PLAIN: lambda: self.attended(self.attention)[0],
            OURS: lambda: adapter(self.x, graph)[0],
            name: lambda: listed(self.x, graph),
            ALIKE: alike,
        }
        title = f"Sparse-GIN, {title}, {share:.0%} of the edges"
        return [
            Comparison(f"{title}: the graph part", part, (X, graph), (name,)),
            Comparison(f"{title}: the whole adapter", whole, (self.x, graph), (name,)),
        ]

    def inputs(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return copies that start a graph of gradients."""
        return tuple(one.detach().clone().requires_grad_() for one in tensors)

    def flat(self, heads: Tensor) -> Tensor:
        """Return the heads side by side, (batch, tokens, hidden)."""
        return heads.transpose(1, 2).reshape(self.x.shape)


def run(one: Contestant, leaves: tuple[Tensor, ...]) -> Tensor:
    """Run forward and backward."""
    for leaf in leaves:
        leaf.grad = None
    out = one()
    out.sin().mean().backward()  # not its square: behind a norm that has no gradient
    return out.detach()


def checked(comparison: Comparison) -> None:
    """Raise where ours and the released way differ, in the output or in a gradient of an input."""
    found = {}
    for name in (OURS, *comparison.released):
        out = run(comparison.ways[name], comparison.leaves)
        # an edge that is not there has no gradient in a list of edges
        found[name] = [out, *(leaf.grad * (leaf != 0) * out.numel() for leaf in comparison.leaves)]
    for name in comparison.released:
        for mine, theirs in zip(found[OURS], found[name], strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=1e-3)


def table(comparison: Comparison) -> None:
    """Check and time the contestants in turn, and print what they took."""
    ways = comparison.ways
    checked(comparison)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(comparison.rounds):
        for name, one in ways.items():
            start = time.perf_counter()
            run(one, comparison.leaves)
            seconds[name].append(time.perf_counter() - start)

    def times(slow: str, fast: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))

    print(f"\n{comparison.title}\n\n| way | ms | times plain attention | ours is faster by |")
    print("| --- | ---: | ---: | ---: |")
    for name in ways:
        plain = f"{times(name, PLAIN):.2f}" if PLAIN in ways else ""
        faster = "" if name == ALIKE else f"{times(name, OURS):.1f}x"
        print(f"| {name} | {1000 * statistics.median(seconds[name]):.1f} | {plain} | {faster} |")
    if ALIKE in ways:
        bounds = ", ".join(f"{times(name, ALIKE):.1f}x" for name in comparison.released)
        print(f"\nIf the graph part took no time at all, ours would be faster by {bounds}.")


def long_texts(lengths: tuple[int, ...], shares: tuple[float, ...], rounds: int) -> None:
    """Time one GIN-Attention module under top-k and take its memory, by whole maps and by lists of neighbours."""
    hidden, heads = 256, 4
    print(f"top-k, forward and backward, one text, width {hidden}, {heads} heads, {rounds} rounds\n")
    print(
        "| tokens | share | whole map, ms | neighbours, ms | whole map takes | map, MiB | neighbours, MiB |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for length, share in ((length, share) for length in lengths for share in shares):
        x = torch.randn(1, length, hidden, generator=torch.Generator().manual_seed(0), requires_grad=True)
        ways: dict[str, Contestant] = {}
        for name, limit in (("map", length), ("neighbours", 0)):
            model = load_causal_lm(
                "tiny-llama",
                vocab_size=16,
                num_hidden_layers=1,
                hidden_size=hidden,
                intermediate_size=hidden,
                num_attention_heads=heads,
                num_key_value_heads=heads,
            )
            processing = Processing("top_k", share=share, dense_up_to=limit)
            torch.manual_seed(0)
            use_graph_attention(model.eval(), GinSettings(processing=processing))
            module = model.model.layers[0].self_attn
            positions = model.model.rotary_emb(x, torch.arange(length)[None])
            ways[name] = lambda module=module, x=x, positions=positions: module(
                hidden_states=x, position_embeddings=positions
            )[0]
        found = {name: run(one, (x,)) for name, one in ways.items()}
        torch.testing.assert_close(found["neighbours"], found["map"], atol=1e-4, rtol=1e-3)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, one in ways.items():
                start = time.perf_counter()
                run(one, (x,))
                seconds[name].append(time.perf_counter() - start)
        ratio = statistics.median(a / b for a, b in zip(seconds["map"], seconds["neighbours"], strict=True))
        times = " | ".join(f"{1000 * statistics.median(seconds[name]):.0f}" for name in ways)
        # what stays until the backward pass: scores as float32, or places as int32 and a truth value each
        kept = heads * length * max(1, int(share * length)) * 5
        sizes = f"{heads * length * length * 4 / 2**20:.0f} | {kept / 2**20:.0f}"
        print(f"| {length} | {share:g} | {times} | {ratio:.2f}x | {sizes} |")


def main() -> None:
    """Check that contestants agree, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--long", action="store_true", help="time top-k on long texts instead")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.long:
        long_texts((1024, 2048, 4096), (0.1, 0.01), 3)
        return
    print(
        f"forward and backward, {given.batch} x {given.length} tokens, width {given.hidden}, {given.heads} heads"
    )
    torch.manual_seed(0)
    layers = Layers(given.batch, given.length, given.hidden, given.heads)
    for comparison in (
        *layers.gin(),
        *layers.pna("softmax"),
        *layers.pna("relu"),
        *layers.sparse_gin("the README's thresholds", SparseGinSettings()),
        *layers.sparse_gin("no cut", SparseGinSettings(cut=None)),
    ):
        table(comparison)


if __name__ == "__main__":
    main()
