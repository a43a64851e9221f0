"""Primitives from anchors: three small networks that all anchors share, asked anew for every view."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.cameras import Camera
from papertrial.scenes.scaffold.anchors import FEATURES, PER_ANCHOR, AnchorState
from papertrial.scenes.splatting.primitives import KINDS, Primitives

HIDDEN = 32
APPEARANCE = 32  # numbers of a camera's appearance vector
NETWORKS = ("opacity", "covariance", "colour")
_LEAST_DISTANCE = 1e-12


class Decoded(NamedTuple):
    """The primitives of one view, anchor by anchor; only those with an opacity above 0.

    Attributes:
        means: (m, 3) in the world.
        raw_quats: (m, 4) as the network gives them, not normalised; rasterisers normalise.
        scales: (m, 3), linear; the third of a surfel is 0.
        opacities: (m,) within 0 and 1.
        colours: (m, 3) within 0 and 1.
        slots: (m,) place in a list of all anchors' primitives: anchor * k + which of its k.
        neural_opacities: (visible, k), all outputs of the opacity network, also those that are not above 0.
    """

    means: Tensor
    raw_quats: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor
    slots: Tensor
    neural_opacities: Tensor

    def primitives(self) -> Primitives:
        """Return what is rasterised, with `colours` as its features."""
        return Primitives(self.means, self.raw_quats, self.scales, self.opacities)


class Decoder(nn.Module):
    """The networks for opacity, covariance and colour.

    Each sees an anchor's feature and the unit direction from the camera to it, has one hidden layer of 32 with ReLU,
    and speaks for all k primitives of the anchor at once.

    Source: Scaffold-GS, arXiv 2312.00109, section 3.2; layers and activations as in its released code.
    """

    def __init__(
        self,
        per_anchor: int = PER_ANCHOR,
        feature_size: int = FEATURES,
        *,
        hidden: int = HIDDEN,
        sees_distance: Collection[str] = (),
        cameras: int = 0,
        appearance_size: int = APPEARANCE,
    ) -> None:
        """Make the networks.

        Args:
            per_anchor: primitives of each anchor.
            feature_size: numbers of each anchor's feature.
            hidden: width of the hidden layers.
            sees_distance: which networks are also given the distance to the camera ("opacity", "covariance",
                "colour"); none by default.
            cameras: how many training cameras have an appearance vector that the colour network sees; 0 for none.
            appearance_size: numbers of each appearance vector.

        Raises:
            BadInputError: an unknown network, or sizes that are not above 0.
        """
        super().__init__()
        for name in sees_distance:
            if name not in NETWORKS:
                raise unknown("network", name, NETWORKS)
        if min(per_anchor, feature_size, hidden, appearance_size) < 1 or cameras < 0:
            raise BadInputError(
                f"sizes of a decoder must be above 0, got {per_anchor}, {feature_size}, {hidden} and {appearance_size}"
            )
        self.per_anchor = per_anchor
        self.sees_distance = frozenset(sees_distance)
        self.appearances = nn.Embedding(cameras, appearance_size) if cameras else None

        def network(name: str, outputs: int, further: int = 0) -> nn.Sequential:
            inputs = feature_size + 3 + further + (name in self.sees_distance)
            return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

        self.opacity = network("opacity", per_anchor)
        self.covariance = network("covariance", 7 * per_anchor)
        self.colour = network("colour", 3 * per_anchor, appearance_size if cameras else 0)

    def decode(
        self,
        state: AnchorState,
        camera: Camera,
        *,
        kind: str = "surfel",
        anchors: Int[Tensor, " v"] | None = None,
        appearance: int | None = None,
        coloured: bool = True,
    ) -> Decoded:
        """Return the primitives that a camera is shown; differentiable in the state.

        Opacity is a tanh, a primitive is there where it is above 0. Its centre is the anchor's plus the offset times
        the first three scalings, its extents are the last three times a sigmoid (a surfel takes the first two).

        Args:
            state: of the anchors, as they are or as a deformation made them.
            camera: that looks.
            kind: "surfel" or "gaussian".
            anchors: those to decode, most often the visible ones; None for all.
            appearance: which training camera's appearance vector colours it; wanted where the decoder has some.
            coloured: whether colours are wanted; without them `colours` has no columns, and no appearance is asked for.

        Raises:
            BadInputError: an unknown kind, or an appearance that the decoder does not have.

        Source: Scaffold-GS's released code, which scales the offsets; arXiv 2412.03428, equation 9, leaves that out.
        """
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        if anchors is None:
            anchors = torch.arange(len(state.positions), device=state.positions.device)
        positions, features = state.positions[anchors], state.features[anchors]
        away = positions - camera.centre.to(positions)
        distance = away.norm(dim=-1, keepdim=True)
        seen = torch.cat([features, away / distance.clamp(min=_LEAST_DISTANCE)], dim=-1)
        opacities = torch.tanh(self.opacity(self._input("opacity", seen, distance)))
        there = (opacities.detach().reshape(-1) > 0).nonzero()[:, 0]
        row, slot = there // self.per_anchor, self._slots(anchors)[there]
        shape = self.covariance(self._input("covariance", seen, distance)).reshape(-1, 7)[there]
        colours = shape[:, :0]
        if coloured:
            colour_input = self._with_appearance(self._input("colour", seen, distance), appearance)
            colours = torch.sigmoid(self.colour(colour_input)).reshape(-1, 3)[there]
        scalings = state.scalings[anchors][row]
        offsets = state.offsets.reshape(-1, 3)[slot]
        axes = 2 if kind == "surfel" else 3
        scales = scalings[:, 3 : 3 + axes] * torch.sigmoid(shape[:, :axes])
        return Decoded(
            means=positions[row] + offsets * scalings[:, :3],
            raw_quats=shape[:, 3:],
            scales=torch.nn.functional.pad(scales, (0, 3 - axes)),
            opacities=opacities.reshape(-1)[there],
            colours=colours,
            slots=slot,
            neural_opacities=opacities,
        )

    def _input(self, name: str, seen: Tensor, distance: Tensor) -> Tensor:
        return torch.cat([seen, distance], dim=-1) if name in self.sees_distance else seen

    def _with_appearance(self, seen: Tensor, appearance: int | None) -> Tensor:
        if self.appearances is None:
            if appearance is not None:
                raise BadInputError(
                    f"this decoder has no appearance vectors, camera {appearance} was asked for"
                )
            return seen
        known = self.appearances.num_embeddings
        if appearance is None or not 0 <= appearance < known:
            raise BadInputError(
                f"colours depend on a training camera's appearance: name one of 0 to {known - 1}, got {appearance}"
            )
        return torch.cat([seen, self.appearances.weight[appearance].expand(len(seen), -1)], dim=-1)

    def _slots(self, anchors: Tensor) -> Tensor:
        which = torch.arange(self.per_anchor, device=anchors.device)
        return (anchors[:, None] * self.per_anchor + which).reshape(-1)


def volume_loss(decoded: Decoded, kind: str) -> Float[Tensor, ""]:
    """Return the mean product of the primitives' extents: two of a surfel, three of a Gaussian; 0 for none.

    Source: Scaffold-GS, arXiv 2312.00109, section 3.4; its weight there is 0.01 (in its code).
    """
    extents = decoded.scales[:, : 2 if kind == "surfel" else 3]
    return extents.prod(dim=1).sum() / max(len(extents), 1)
