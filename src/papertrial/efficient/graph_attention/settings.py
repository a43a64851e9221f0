"""The settings of the attention modules and of the adapter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from papertrial.efficient.graph_attention.adjacency import Processing
from papertrial.errors import BadInputError, unknown

SCORINGS = ("dot", "mlp", "differential")
GROUP_NORMS = (None, "visible")
PNA_WEIGHTS = ("softmax", "relu")
MAX_OVER = ("neighbours", "own")
COMBINATIONS = ("sum", "mean", "mlp-sigmoid", "mlp-softmax", "threshold_any")
DISTANCES = (None, "sigmoid", "exp", "power")
ACTIVATIONS = ("prelu", "relu", "gelu", "tanh")
EDGES = ("causal", "self")
PLACEMENTS = ("before_mlp", "after_mlp", "parallel")


@dataclass(frozen=True)
class GinSettings:
    """GIN-Attention; the defaults are the form that did best in the paper (figures 6 to 8).

    Attributes:
        multiplier: γ, the hidden width of a head's MLP over its own.
        scoring: `dot`, `mlp` (a network on every pair of tokens) or `differential` (of two softmaxes).
        sharpness: what the trainable α starts at; None draws it from U(0.5, 1.5); `train_sharpness` False
            keeps it at 1.
        train_sharpness: whether α is trained.
        temperature: τ of the softmax.
        processing: of the adjacency.
        train_threshold: whether the processing's t is trained.
        dropout: inside the MLP.
        adjacency_dropout: on the adjacency.
        output_projection: whether the heads are mixed by an `o_proj` at the end.
        scoring_width: hidden width of the `mlp` scoring.
        first_layer: 0 counts layers as the released code does in the differential λ's start (−0.01… at the
            first layer), 1 as the formula's source does.
        group_norm: None, or `visible`: the differential adjacency normalised per row over what it sees.

    Raises:
        BadInputError: a setting out of range, or two that exclude one another.
    """

    multiplier: float = 0.5
    scoring: str = "dot"
    sharpness: float | None = 1.0
    train_sharpness: bool = True
    temperature: float = 1.0
    processing: Processing = field(default_factory=Processing)
    train_threshold: bool = False
    dropout: float = 0.1
    adjacency_dropout: float = 0.0
    output_projection: bool = False
    scoring_width: int = 512
    first_layer: int = 0
    group_norm: str | None = None

    def __post_init__(self) -> None:
        _chosen("scoring", self.scoring, SCORINGS)
        if self.group_norm not in GROUP_NORMS:
            raise BadInputError(
                f"group_norm must be None or 'visible', got {self.group_norm!r}: the released norm takes its "
                "statistics over the whole map, later tokens included, so a model would see the future"
            )
        if self.group_norm is not None and self.scoring != "differential":
            raise BadInputError(f"group_norm belongs to scoring 'differential', not to {self.scoring!r}")
        if self.first_layer not in (0, 1):
            raise BadInputError(f"first_layer must be 0 or 1, got {self.first_layer}")
        _shares(dropout=self.dropout, adjacency_dropout=self.adjacency_dropout)
        if not self.multiplier > 0 or not self.temperature > 0 or self.scoring_width < 1:
            raise BadInputError(
                "multiplier and temperature must be above 0 and scoring_width at least 1, got "
                f"{self.multiplier}, {self.temperature}, {self.scoring_width}"
            )
        _trainable(self.train_threshold, self.processing)


@dataclass(frozen=True)
class PnaSettings:
    """PNA-Attention.

    Attributes:
        multiplier: γ of the map of the four aggregates.
        weights: `softmax`, or `relu` of the scores, the released code's default.
        processing: of the adjacency, used for every aggregate.
        train_threshold: whether its t is trained.
        max_over: `neighbours`, as described, or `own`: the released code's maximum is a token's own value
            wherever it has any neighbour, because it expands the values along the wrong axis.
        language_model: the form with mean, longest, variance and shortest neighbour instead.

    Raises:
        BadInputError: a setting out of range.
    """

    multiplier: float = 0.5
    weights: str = "softmax"
    processing: Processing = field(default_factory=Processing)
    train_threshold: bool = False
    max_over: str = "neighbours"
    language_model: bool = False

    def __post_init__(self) -> None:
        _chosen("weights", self.weights, PNA_WEIGHTS)
        _chosen("max_over", self.max_over, MAX_OVER)
        if not self.multiplier > 0:
            raise BadInputError(f"multiplier must be above 0, got {self.multiplier}")
        _trainable(self.train_threshold, self.processing)


@dataclass(frozen=True)
class SparseGinSettings:
    """The adapter; the defaults are the README's for a 3 B model, but for the width.

    Attributes:
        width: r, of the graph network; None takes a twentieth of the hidden size (155 of 3,072).
        combine: how the heads' attentions become one graph.
        threshold: t of the sigmoid, or of `threshold_any`.
        sharpness: α of the sigmoid; 0 leaves the weights as they are.
        cut: ε_t, at or below which an edge is dropped; None keeps all.
        temperature: τ of `threshold_any`.
        edges: `causal`, messages from earlier tokens, as the paper describes; `self`, a token's message to
            itself alone, which is what the released code computes and its adapters were trained with.
        weighted: whether messages are multiplied by the edge's weight.
        self_edges: whether a token is its own neighbour.
        distance: None, or how far tokens count more: `sigmoid`, `exp` or `power`.
        distance_strength: its strength.
        layers: rounds of messages.
        multiplier: hidden width of a round's MLP over r.
        activation: of all places; `prelu` has one slope for a layer's network.
        hidden_norm: a LayerNorm inside the MLP.
        residual: whether a round's input is added to its output.
        dropout: after each round.
        first_scale: λ of the first layer.
        last_scale: λ of the last; between them λ is linear in depth.
        train_scale: whether λ is trained.
        placement: `before_mlp`, `after_mlp`, or `parallel` to the MLP.
        side_path: compute the attention weights from queries and keys beside the model's own attention,
            which then may be sdpa; else the model must be `eager`.

    Raises:
        BadInputError: a setting out of range.

    Source: arXiv 2501.02393, figures 9 to 12; llama_decoder_layer_with_gnn.py, graph_neural_network.py.
    """

    width: int | None = None
    combine: str = "sum"
    threshold: float = 0.1
    sharpness: float = 10.0
    cut: float | None = 0.6
    temperature: float = 10.0
    edges: str = "causal"
    weighted: bool = True
    self_edges: bool = True
    distance: str | None = None
    distance_strength: float = 1.0
    layers: int = 1
    multiplier: float = 1.0
    activation: str = "prelu"
    hidden_norm: bool = False
    residual: bool = False
    dropout: float = 0.1
    first_scale: float = 0.0
    last_scale: float = 0.5
    train_scale: bool = True
    placement: str = "before_mlp"
    side_path: bool = False

    def __post_init__(self) -> None:
        _chosen("combine", self.combine, COMBINATIONS)
        _chosen("edges", self.edges, EDGES)
        _chosen("activation", self.activation, ACTIVATIONS)
        _chosen("placement", self.placement, PLACEMENTS)
        if self.distance not in DISTANCES:
            raise unknown("distance weighting", str(self.distance), [d for d in DISTANCES if d])
        if self.threshold > 1:
            raise BadInputError(f"threshold must be at most 1, got {self.threshold}")
        if self.cut is not None and not self.cut < 1:
            raise BadInputError(f"cut must be below 1, or no edge is left, got {self.cut}")
        if self.sharpness < 0 or not self.temperature > 0:
            raise BadInputError(
                f"sharpness must be at least 0 and temperature above 0, got {self.sharpness}, {self.temperature}"
            )
        if self.edges == "self" and not self.self_edges:
            raise BadInputError("edges='self' keeps self edges alone, so self_edges=False leaves none")
        if self.layers < 1 or (self.width is not None and self.width < 1):
            raise BadInputError(f"layers and width must be at least 1, got {self.layers}, {self.width}")
        _shares(dropout=self.dropout)

    def scale(self, layer: int, layers: int) -> float:
        """Return what λ starts at in the given layer (from 0) of so many."""
        if layers < 2:
            return self.first_scale
        return self.first_scale + (self.last_scale - self.first_scale) * layer / (layers - 1)


def differential_start(layer: int, settings: GinSettings) -> float:
    """Return λ0 = 0.8 − 0.6·exp(−0.3(l − 1)) of the layer with index `layer` from 0."""
    return 0.8 - 0.6 * math.exp(-0.3 * (layer + settings.first_layer - 1))


def _chosen(name: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise unknown(name, str(given), choices)


def _shares(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value < 1:
            raise BadInputError(f"{name} must be at least 0 and below 1, got {value}")


def _trainable(wanted: bool, processing: Processing) -> None:
    if wanted and processing.kind in ("none", "binary", "top_k", "scaled_topk_causal_4d"):
        raise BadInputError(f"processing {processing.kind!r} has no threshold with a gradient to train")
