"""Motion in two parts: anchors, moved to a segment's start, and their Gaussians, moved to the frame's own time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papertrial.errors import BadInputError
from papertrial.scenes.hexplane import HexPlane
from papertrial.scenes.scaffold import AnchorState, Decoded

HIDDEN = 128
OPEN_FROM = 0.01  # of the gate's sigmoid: below it an anchor's place stays
LEAST_SCALE = 1e-6  # ours: deformed extents and scalings are kept above it


class DeformationNetwork(nn.Module):
    """A linear trunk, and for each kind of step a head of two layers: ReLU, linear, ReLU, linear.

    Args:
        features: of the field that is read.
        outputs: name and size of each head.
        hidden: width of trunk and heads.
        zero_start: whether each head's last layer begins at zero, so that nothing is deformed at first. The released
            networks begin with Xavier-uniform weights throughout instead.

    Raises:
        BadInputError: sizes that are not above 0.

    Source: arXiv 2501.03714's released networks, depth 1: one trunk layer without an activation after it.
    """

    def __init__(
        self, features: int, outputs: Mapping[str, int], *, hidden: int = HIDDEN, zero_start: bool = True
    ) -> None:
        super().__init__()
        if min(features, hidden, *outputs.values()) < 1:
            raise BadInputError(
                f"a deformation network's sizes must be above 0, got {features} features, {hidden} hidden, "
                f"{dict(outputs)}"
            )
        self.trunk = nn.Linear(features, hidden)
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, size))
                for name, size in outputs.items()
            }
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        if zero_start:
            for head in self._layers():
                last = head[-1]
                assert isinstance(last, nn.Linear)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, features: Float[Tensor, "n features"]) -> dict[str, Tensor]:
        """Return what each head says, by name: (n, its size)."""
        # All heads begin with the same ReLU and a layer of the same shape: taken together they are one product.
        shared = torch.relu(self.trunk(features))
        firsts, lasts = zip(*((head[1], head[3]) for head in self._layers()), strict=True)
        wide = torch.nn.functional.linear(
            shared, torch.cat([layer.weight for layer in firsts]), torch.cat([layer.bias for layer in firsts])
        )
        parts = torch.relu_(wide).split(self.trunk.out_features, dim=1)
        return {name: last(part) for name, last, part in zip(self.heads, lasts, parts, strict=True)}

    def _layers(self) -> list[nn.Sequential]:
        return [cast(nn.Sequential, head) for head in self.heads.values()]


class AnchorDeformation(nn.Module):
    """Moves anchors: place, feature, offsets and scalings, each by what a field at their places and a time says.

    The gates are two logits of each anchor, or one that serves as both. The first masks the step of the place: open
    where its sigmoid is above 0.01, with the sigmoid's own gradient (straight through). The second's sigmoid scales
    the other three steps. At logits of 0 the mask is open and the scale 0.5.

    Args:
        field: that is read at the anchors' places.
        feature_size: numbers of each anchor's feature.
        per_anchor: primitives of each anchor.
        hidden: width of the network.
        zero_start: see `DeformationNetwork`.

    Source: arXiv 2501.03714, section 3.2 (global anchor deformation), in its released form: scalings are deformed
    after the exponential, by addition.
    """

    def __init__(
        self,
        field: HexPlane,
        feature_size: int,
        per_anchor: int,
        *,
        hidden: int = HIDDEN,
        zero_start: bool = True,
    ) -> None:
        super().__init__()
        self.field = field
        outputs = {"positions": 3, "features": feature_size, "offsets": 3 * per_anchor, "scalings": 6}
        self.network = DeformationNetwork(field.features, outputs, hidden=hidden, zero_start=zero_start)

    def forward(
        self,
        state: AnchorState,
        times: Sequence[float],
        gates: Float[Tensor, "a g"] | None = None,
        *,
        outside: Literal["raise", "clamp"] = "raise",
    ) -> list[AnchorState]:
        """Return the anchors' state at each time: for segment n, at its start, its local canonical scaffold.

        Args:
            state: of A anchors.
            times: within 0 and 1. They are read together, in one walk through the field.
            gates: logits, one or two for each anchor; None leaves all steps as they are.
            outside: what to do with anchors outside the field's box: raise, or take its border's value.

        Raises:
            BadInputError: anchors outside the box, or a number of gates that is neither one nor two.
        """
        count, number = len(state.positions), len(times)
        points = state.positions.repeat(number, 1)
        when = points.new_tensor(list(times)).repeat_interleave(count)
        features = self.field(points, when, outside=outside)
        steps = {name: one.view(number, count, -1) for name, one in self.network(features).items()}
        if gates is not None:
            mask, share = _gates(gates)
            steps = {name: (mask if name == "positions" else share) * one for name, one in steps.items()}
        return [
            AnchorState(
                state.positions + steps["positions"][at],
                state.features + steps["features"][at],
                state.offsets + steps["offsets"][at].view_as(state.offsets),
                (state.scalings + steps["scalings"][at]).clamp(min=LEAST_SCALE),
            )
            for at in range(number)
        ]


class GaussianDeformation(nn.Module):
    """Moves decoded Gaussians: centre, extents and rotation; opacity and colour stay. No gates.

    Args:
        field: that is read at the Gaussians' centres; one for all segments.
        hidden: width of the network.
        zero_start: see `DeformationNetwork`.

    Source: arXiv 2501.03714, section 3.2 (local Gaussian deformation); additive steps and networks are those of
    4DGS, arXiv 2310.08528.
    """

    def __init__(self, field: HexPlane, *, hidden: int = HIDDEN, zero_start: bool = True) -> None:
        super().__init__()
        self.field = field
        outputs = {"means": 3, "scales": 3, "quats": 4}
        self.network = DeformationNetwork(field.features, outputs, hidden=hidden, zero_start=zero_start)

    def forward(self, frames: Sequence[Decoded], times: Sequence[float]) -> list[Decoded]:
        """Return the Gaussians of several frames at their times, deformed; read together, in one walk.

        Centres outside the field's box take the border's value: an anchor lies inside, its Gaussians may stray.
        Steps of the rotation are added to the decoder's quaternions before they are normalised.

        Raises:
            BadInputError: not as many times as frames.
        """
        if len(frames) != len(times):
            raise BadInputError(
                f"every frame needs its time, got {len(frames)} frames and {len(times)} times"
            )
        counts = [len(one.means) for one in frames]
        points = torch.cat([one.means for one in frames])
        when = points.new_tensor(list(times)).repeat_interleave(torch.tensor(counts, device=points.device))
        steps = self.network(self.field(points, when, outside="clamp"))
        parts = {name: one.split(counts) for name, one in steps.items()}
        return [
            one._replace(
                means=one.means + parts["means"][at],
                scales=(one.scales + parts["scales"][at]).clamp(min=LEAST_SCALE),
                raw_quats=one.raw_quats + parts["quats"][at],
            )
            for at, one in enumerate(frames)
        ]


def open_mask(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 1 where a gate's sigmoid is above 0.01 and 0 elsewhere, with the gradient of the sigmoid.

    Source: arXiv 2501.03714, table 3, row f (anchor dynamics), in its released form.
    """
    soft = torch.sigmoid(logits)
    return (soft > OPEN_FROM).to(soft) + (soft - soft.detach())


def _gates(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask of places and the share of the other steps, each (A, 1)."""
    if logits.shape[1] not in (1, 2):
        raise BadInputError(f"an anchor has one gate or two, got {logits.shape[1]}")
    return open_mask(logits[:, :1]), torch.sigmoid(logits[:, -1:])
