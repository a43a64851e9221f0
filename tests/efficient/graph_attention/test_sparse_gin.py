from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.graph_attention import SparseGinSettings
from papertrial.efficient.graph_attention.adjacency import softmax_adjacency, visible_pairs
from papertrial.efficient.graph_attention.sparse_gin import GinRound, SparseGin, adapter_width
from papertrial.errors import BadInputError

CPU = torch.device("cpu")


def attention_of(length, seed, batch=1, heads=3):
    scores = 3 * torch.randn(batch, heads, length, length, generator=torch.Generator().manual_seed(seed))
    visible = visible_pairs(None, batch, length, length, CPU)
    return softmax_adjacency(scores, visible), visible


def network(stirred=None, hidden=12, heads=3, **changed):
    made = SparseGin(hidden, heads, 0.5, SparseGinSettings(**{"width": 5, **changed})).eval()
    return made if stirred is None else stirred(made)


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 9),
    seed=st.integers(0, 99),
    combine=st.sampled_from(["sum", "mean", "threshold_any"]),
    sharpness=st.sampled_from([0.0, 10.0]),
    cut=st.sampled_from([None, 0.2, 0.6]),
    edges=st.sampled_from(["causal", "self"]),
    distance=st.sampled_from([None, "sigmoid", "exp", "power"]),
)
def test_the_graph_is_the_steps_written_out(length, seed, combine, sharpness, cut, edges, distance):
    attention, visible = attention_of(length, seed)
    made = network(
        combine=combine,
        sharpness=sharpness,
        cut=cut,
        edges=edges,
        distance=distance,
        distance_strength=0.5,
        temperature=2.0,
    ).graph(attention, visible)
    a = attention[0].double()
    for i in range(length):
        for j in range(length):
            column = a[:, i, j]
            weight = {
                "sum": min(float(column.sum()), 1.0),
                "mean": float(column.mean()),
                "threshold_any": float(torch.sigmoid((column - 0.1) / 2.0).max()),
            }[combine]
            if distance:
                far = {
                    "sigmoid": lambda d: torch.sigmoid(torch.tensor(0.5 * d).double()).item(),
                    "exp": lambda d: torch.exp(torch.tensor(0.5 * d).double()).item(),
                    "power": lambda d: (0.5 * d + 1) ** 0.5,
                }[distance]
                weight *= far(abs(i - j)) / far(length - 1)
            if j > i:
                weight = 0.0
            if sharpness:
                weight = torch.sigmoid(torch.tensor(sharpness * (weight - 0.1)).double()).item()
            if cut is not None and weight <= cut:
                # an entry that rounds to the cut itself may fall on either side
                assert float(made[0, i, j]) == 0.0 or abs(weight - cut) < 1e-6
                continue
            if j > i or (edges == "self" and i != j):
                weight = 0.0
            assert float(made[0, i, j]) == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize("squash", ["sigmoid", "softmax"])
def test_heads_are_combined_by_a_network(stirred, squash):
    attention, _ = attention_of(6, 2)
    made = network(stirred, combine=f"mlp-{squash}")
    found = made._combined(attention)
    combiner = made.combiner
    logits = torch.stack(
        [
            torch.stack([combiner.down(torch.relu(combiner.up(attention[0, :, i, j])))[0] for j in range(6)])
            for i in range(6)
        ]
    )
    expected = logits.sigmoid() if squash == "sigmoid" else logits.softmax(-1)
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=1e-5)


def message_by_loops(x, graph, own, weighted):
    heard = torch.zeros_like(x)
    for i in range(len(x)):
        heard[i] = own * x[i]
        for j in range(len(x)):
            if graph[i, j] != 0:
                heard[i] += (graph[i, j] if weighted else 1.0) * x[j]
    return heard


@pytest.mark.parametrize("weighted", [True, False])
def test_a_round_is_the_double_loop(stirred, weighted):
    attention, visible = attention_of(7, 0)
    made = stirred(network(weighted=weighted, hidden_norm=True, multiplier=2.0))
    graph = made.graph(attention, visible)
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(4))
    one = made.rounds[0]
    found = one(x, x, graph, made.activation)
    heard = message_by_loops(x[0], graph[0], one.own_weight, weighted)
    hidden = torch.nn.functional.layer_norm(one.up(heard), (10,), one.norm.weight, one.norm.bias)
    expected = one.down(torch.where(hidden > 0, hidden, made.activation.weight * hidden)) + heard
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def geometric():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it scripts its classes while it is imported
        return pytest.importorskip("torch_geometric.nn")


def test_rounds_agree_with_torch_geometric(stirred, geometric):
    """Peers: DenseGINConv on the unweighted graph, GINConv on its list of edges; there ε counts from 1."""
    attention, visible = attention_of(8, 1)
    made = stirred(network(weighted=False))
    graph = made.graph(attention, visible)
    linked = (graph != 0).float()
    one, x = made.rounds[0], torch.randn(1, 8, 5, generator=torch.Generator().manual_seed(0))
    ours = one(x, x, graph, made.activation)
    own = float(one.own_weight.detach()) - 1

    def mlp(heard):
        return one.down(made.activation(one.up(heard))) + heard

    dense = geometric.DenseGINConv(Callable(mlp), eps=own)
    torch.testing.assert_close(dense(x, linked), ours, atol=1e-5, rtol=1e-5)
    into, source = linked[0].nonzero().T
    sparse = geometric.GINConv(Callable(mlp), eps=own)
    torch.testing.assert_close(sparse(x[0], torch.stack([source, into])), ours[0], atol=1e-5, rtol=1e-5)


class Callable(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def test_messages_do_not_know_the_order_of_tokens(stirred):
    attention, visible = attention_of(7, 5)
    made = stirred(network())
    graph = made.graph(attention, visible)
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    one: GinRound = made.rounds[0]
    whole = one(x, x, graph, made.activation)
    again = one(x[:, order], x[:, order], graph[:, order][:, :, order], made.activation)
    torch.testing.assert_close(again, whole[:, order], atol=1e-6, rtol=1e-5)


def test_without_edges_only_the_tokens_own_features_are_left(stirred):
    attention, visible = attention_of(6, 0)
    made = stirred(network(cut=0.9999, threshold=1.0))
    graph = made.graph(attention, visible)
    assert not graph.any()
    x = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))
    one = made.rounds[0]
    heard = one.own_weight * x
    expected = one.down(made.activation(one.up(heard))) + heard
    torch.testing.assert_close(one(x, x, graph, made.activation), expected)


def test_the_readme_thresholds_keep_an_edge_above_014(stirred):
    """σ(10 (A − 0.1)) > 0.6 exactly where A > 0.1405."""
    attention = torch.tensor([0.1404, 0.1407]).view(1, 1, 1, 2)
    visible = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    assert (network(heads=1).graph(attention, visible) != 0).tolist() == [[[False, True]]]


@pytest.mark.parametrize("edges", ["causal", "self"])
def test_who_hears_whom(stirred, edges):
    """The finding: with the edges of the released code no token hears another."""
    attention, visible = attention_of(10, 3)
    made = stirred(network(edges=edges, cut=None))
    graph = made.graph(attention, visible)
    hidden = torch.randn(1, 10, 12, generator=torch.Generator().manual_seed(2))
    changed = hidden.clone()
    changed[:, 4] += 1.0
    moved = (made(changed, graph)[0] - made(hidden, graph)[0]).abs().amax(-1)[0] > 1e-6
    assert not moved[:4].any()
    assert moved[4]
    assert bool(moved[5:].any()) == (edges == "causal")
    off_diagonal = int((graph[0] != 0).sum()) - int((graph[0].diagonal() != 0).sum())
    assert (off_diagonal > 0) == (edges == "causal")


def test_the_layer_written_out(stirred):
    attention, visible = attention_of(6, 7)
    made = stirred(network(layers=2, residual=True, activation="gelu"))
    hidden = torch.randn(1, 6, 12, generator=torch.Generator().manual_seed(0))
    graph = made.graph(attention, visible)
    x = made.input_projection(hidden)
    for one in made.rounds:
        heard = one.own_weight * x + graph @ x
        x = torch.nn.functional.gelu(one.down(torch.nn.functional.gelu(one.up(heard))) + heard) + x
    out = made.output_projection(x)
    out = out / (out.square().mean(-1, keepdim=True) + 1e-5).sqrt() * made.norm.weight
    torch.testing.assert_close(made(hidden, graph)[0], made.scale * out, atol=1e-5, rtol=1e-5)


def test_self_edges_may_be_left_out():
    attention, visible = attention_of(6, 7)
    graph = network(self_edges=False, cut=None).graph(attention, visible)
    assert not graph[0].diagonal().any()
    assert graph[0].tril(-1).any()


def test_scales_rise_with_depth_and_width_follows_the_readme():
    settings = SparseGinSettings()
    assert [settings.scale(layer, 5) for layer in range(5)] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert settings.scale(0, 1) == 0.0
    assert adapter_width(3072, settings) == 155
    # 28.2 M trainable weights on Llama-3.2-3B (28 layers), by the sheet's count
    with torch.device("meta"):
        layer = SparseGin(3072, 24, 0.0, settings)
    assert 28 * sum(weight.numel() for weight in layer.parameters()) == pytest.approx(28.2e6, rel=0.01)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"combine": "max"}, "unknown combine 'max'"),
        ({"edges": "both"}, "unknown edges 'both'"),
        ({"placement": "before"}, "before_mlp"),
        ({"distance": "linear"}, "unknown distance weighting"),
        ({"threshold": 1.2}, "threshold must be at most 1"),
        ({"cut": 1.0}, "no edge is left"),
        ({"sharpness": -1.0}, "sharpness must be at least 0"),
        ({"layers": 0}, "layers and width must be at least 1"),
        ({"edges": "self", "self_edges": False}, "leaves none"),
        ({"dropout": 1.0}, "dropout must be at least 0"),
    ],
)
def test_bad_settings_are_refused(changed, said):
    with pytest.raises(BadInputError, match=said):
        SparseGinSettings(**changed)
