"""The fast paths' plain references: CLP token by token, SAVA row by row, its aligner by automatic gradients.

They have the released code's structure and cost, and the tests and the bench hold the fast ones to them.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papertrial.efficient.vocabulary_adaptation.aligners import AffineMap
from papertrial.efficient.vocabulary_adaptation.alignment import Translation
from papertrial.models import seeded


def clp_loop(
    helper_new: Float[Tensor, "new helper_width"],
    helper_shared: Float[Tensor, "shared helper_width"],
    source_shared: Float[Tensor, "shared width"],
) -> Float[Tensor, "new width"]:
    """Return the published CLP rows: all similarities first, then one weighted average after another."""
    unit_new = functional.normalize(helper_new, dim=1).numpy()
    similarity = unit_new @ functional.normalize(helper_shared, dim=1).numpy().T
    rows = source_shared.numpy()
    made = np.empty((len(similarity), rows.shape[1]), rows.dtype)
    for number, weights in enumerate(similarity):
        made[number] = np.average(rows, axis=0, weights=weights / weights.sum())
    return torch.from_numpy(made)


def translate_rows(
    translation: Translation, rows: Float[Tensor, "rows helper_width"]
) -> Float[Tensor, "rows width"]:
    """Map one row after the other."""
    return torch.cat([translation(row[None]) for row in rows])


def train_aligner(
    x: Float[Tensor, "anchors source"],
    y: Float[Tensor, "anchors target"],
    steps: int = 1000,
    lr: float = 1e-3,
    seed: int = 42,
) -> AffineMap:
    """Fit the linear layer as published: pad the narrower side, draw, and step Adam through autograd."""
    width = max(x.shape[1], y.shape[1])
    wide_x = functional.pad(x, (0, width - x.shape[1]))
    wide_y = functional.pad(y, (0, width - y.shape[1]))
    with seeded(seed):
        layer = nn.Linear(width, width).to(x)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.mse_loss(layer(wide_x), wide_y).backward()
        optimizer.step()
    matrix = layer.weight.detach().T[: x.shape[1], : y.shape[1]]
    return AffineMap(matrix, layer.bias.detach()[: y.shape[1]])
