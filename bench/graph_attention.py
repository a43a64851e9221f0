"""Graph attention beside plain attention and beside layers built as the released ones are, on the CPU.

    python bench/graph_attention.py            # one layer, forward and backward, interleaved; Markdown
    python bench/graph_attention.py --long     # top-k over 1 k to 4 k tokens: lists of neighbours, the whole map

The released package does not import on transformers 5 (and needs torch_scatter, which is compiled on
installation), so its layers are written here again in their own manner: a Python loop over heads with an
`nn.Sequential` each, a list of edges for every text joined into one batch and scattered, a maximum over
neighbours that expands all values for all rows. Both compute the same numbers as ours (checked first). One
thread; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from papertrial.efficient.graph_attention import (
    GinSettings,
    PnaSettings,
    Processing,
    SparseGinSettings,
    use_graph_attention,
)
from papertrial.efficient.graph_attention.adjacency import visible_pairs
from papertrial.efficient.graph_attention.aggregates import mean_and_variance
from papertrial.efficient.graph_attention.sparse_gin import SparseGin
from papertrial.models import load_causal_lm

ROUNDS = 15
Contestant = Callable[[], Tensor]


class LoopedGin(nn.Module):
    """GIN-Attention's second half as released: one network after the other, each an `nn.Sequential`."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        network, self.own_weight = ours.network, ours.own_weight
        self.heads = nn.ModuleList()
        for head in range(ours.heads):
            up = nn.Linear(network.up.weight.shape[2], network.up.weight.shape[1])
            down = nn.Linear(network.down.weight.shape[2], network.down.weight.shape[1])
            norm = nn.RMSNorm(up.out_features, eps=network.norm.eps)
            with torch.no_grad():
                for linear, source in ((up, network.up), (down, network.down)):
                    linear.weight.copy_(source.weight[head])
                    linear.bias.copy_(source.bias[head])
                norm.weight.copy_(network.norm.weight[head, 0])
            self.heads.append(nn.Sequential(up, nn.Dropout(0.0), norm, nn.SiLU(), down))

    def forward(self, own: Tensor, adjacency: Tensor) -> Tensor:
        outputs = []
        for head, network in enumerate(self.heads):
            x, A = own[:, head], adjacency[:, head]
            outputs.append(network(self.own_weight[head] * x + torch.matmul(A, x)))
        return torch.cat(outputs, dim=-1)


def scattered_sparse_gin(network: SparseGin, hidden: Tensor, graph: Tensor) -> Tensor:
    """The adapter as released, with the edges the right way round: one list of edges for the whole batch."""
    tokens = hidden.shape[1]
    edges, weights = [], []
    for number, one in enumerate(graph):
        into, source = one.nonzero(as_tuple=False).t()
        edges.append(torch.stack([source, into]) + number * tokens)
        weights.append(one[into, source])
    source, into = torch.cat(edges, dim=1)
    weight = torch.cat(weights)
    batch = torch.arange(len(graph)).repeat_interleave(tokens)
    kept = (batch[source] == batch[into]) & (source <= into)
    source, into, weight = source[kept], into[kept], weight[kept]
    x = network.input_projection(hidden.reshape(-1, hidden.shape[2]))
    for one in network.rounds:
        messages = weight.view(-1, 1) * x[source]
        heard = one.own_weight * x + torch.zeros_like(x).index_add(0, into, messages)
        x = network.activation(one.down(network.activation(one.up(heard))) + heard)
    out = network.output_projection(x).view_as(hidden)
    return network.scale * network.norm(out)


def expanded_pna(module: nn.Module, edges: Tensor, value: Tensor) -> Tensor:
    """The four aggregates with a maximum that expands (q, k, width) numbers a head, all at once."""
    mean, variance = mean_and_variance(edges, value)
    spread = value.unsqueeze(2).expand(-1, -1, edges.shape[2], -1, -1)
    largest = spread.masked_fill(~(edges > 0).unsqueeze(-1), float("-inf")).max(dim=3).values
    return torch.cat([edges @ value, mean, largest, variance], dim=-1)


def contestants(batch: int, length: int, hidden: int, heads: int) -> dict[str, dict[str, Contestant]]:
    """Return for every comparison its contestants; each runs forward and backward once."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, length, hidden, generator=generator, requires_grad=True)
    mask = visible_pairs(None, batch, length, length, x.device)
    additive = torch.zeros(batch, 1, length, length).masked_fill(~mask, torch.finfo(torch.float32).min)

    def decoder(settings: GinSettings | PnaSettings | None) -> nn.Module:
        sizes = {"hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": heads}
        model = load_causal_lm(
            "tiny-llama", vocab_size=16, num_hidden_layers=1, intermediate_size=hidden, **sizes
        )
        model.set_attn_implementation("eager")
        if settings is not None:
            use_graph_attention(model, settings)
        return model.eval()

    plain, gin, pna = decoder(None), decoder(GinSettings()), decoder(PnaSettings())
    positions = plain.model.rotary_emb(x, torch.arange(length)[None])
    inputs = {"hidden_states": x, "position_embeddings": positions, "attention_mask": additive}
    attention, gin_module, pna_module = (model.model.layers[0].self_attn for model in (plain, gin, pna))
    looped = LoopedGin(gin_module)

    def released_gin() -> Tensor:
        own = gin_module.cut_features(x)
        rows_of, _ = gin_module._rows(x, own, positions, None)
        return looped(own, rows_of(slice(None), mask))

    def pna_with(aggregates: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        own = pna_module.project(pna_module.v_proj, x)
        query, key = pna_module.turned(pna_module.q_proj, pna_module.k_proj, x, positions)
        edges = (query @ key.transpose(2, 3) * pna_module.scaling + additive).softmax(-1)
        mapped = pna_module.network(aggregates(edges, own))
        return pna_module.o_proj(mapped.transpose(1, 2).reshape(batch, length, -1))

    adapter = SparseGin(hidden, heads, 0.5, SparseGinSettings()).eval()
    with torch.no_grad():
        nn.init.normal_(adapter.rounds[0].own_weight)
        graph = adapter.graph(attention(**inputs)[1], mask)
    return {
        "GIN-Attention, whole module": {
            "plain eager attention": lambda: attention(**inputs)[0],
            "ours": lambda: gin_module(**inputs)[0],
            "as released, a loop over heads": released_gin,
        },
        "PNA-Attention, whole module": {
            "plain eager attention": lambda: attention(**inputs)[0],
            "ours": lambda: pna_module(**inputs)[0],
            "as described, the maximum expanded": lambda: pna_with(
                lambda edges, value: expanded_pna(pna_module, edges, value)
            ),
        },
        "Sparse-GIN, beside attention": {
            "plain eager attention": lambda: attention(**inputs)[0],
            "ours": lambda: adapter(x, graph)[0],
            "as released, lists of edges": lambda: scattered_sparse_gin(adapter, x, graph),
        },
    }


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
        found = {name: run(one) for name, one in ways.items()}
        torch.testing.assert_close(found["neighbours"], found["map"], atol=1e-4, rtol=1e-3)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, one in ways.items():
                start = time.perf_counter()
                run(one)
                seconds[name].append(time.perf_counter() - start)
        ratio = statistics.median(a / b for a, b in zip(seconds["map"], seconds["neighbours"], strict=True))
        times = " | ".join(f"{1000 * statistics.median(seconds[name]):.0f}" for name in ways)
        # what stays until the backward pass: scores as float32, or places as int32 and a truth value each
        kept = heads * length * max(1, int(share * length)) * 5
        sizes = f"{heads * length * length * 4 / 2**20:.0f} | {kept / 2**20:.0f}"
        print(f"| {length} | {share:g} | {times} | {ratio:.2f}x | {sizes} |")


def run(one: Contestant) -> Tensor:
    out = one()
    out.square().mean().backward()
    return out.detach()


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
    for title, ways in contestants(given.batch, given.length, given.hidden, given.heads).items():
        found = {name: run(one) for name, one in ways.items()}
        released = next(name for name in ways if name.startswith("as "))
        torch.testing.assert_close(found["ours"], found[released], atol=1e-4, rtol=1e-3)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, one in ways.items():
                start = time.perf_counter()
                run(one)
                seconds[name].append(time.perf_counter() - start)
        print(
            f"\n{title}\n\n| way | ms | times plain attention | ours is faster by |\n| --- | ---: | ---: | ---: |"
        )
        for name in ways:
            times = [a / b for a, b in zip(seconds[name], seconds["plain eager attention"], strict=True)]
            faster = [a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)]
            print(
                f"| {name} | {1000 * statistics.median(seconds[name]):.1f} | {statistics.median(times):.2f} | "
                f"{statistics.median(faster):.1f}x |"
            )


if __name__ == "__main__":
    main()
