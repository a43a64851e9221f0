"""Growing anchors where primitives' gradients are large, and pruning those that show nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.optim import Adam

from papertrial.errors import BadInputError
from papertrial.scenes.parameter_rows import append_rows, keep_rows
from papertrial.scenes.scaffold.anchors import SCALINGS, Anchors
from papertrial.scenes.scaffold.decoding import Decoded
from papertrial.scenes.scaffold.growth_settings import GrowthSettings
from papertrial.scenes.splatting.primitives import RenderOut


class Update(NamedTuple):
    """What an update did: anchors added on each level, coarse to fine, and anchors pruned."""

    added: tuple[int, ...]
    pruned: int


class Growth:
    """Statistics of anchors and their primitives, and the updates made by them.

    After an update the anchors are the survivors in their order, then the new ones level by level, cells in sorted
    order.

    Attributes:
        opacity_sum: (A,) for each anchor, the summed opacities of its primitives over the steps it was seen in.
        seen: (A,) how many those were.
        gradient_sum: (A k,) for each primitive, the summed lengths of its gradients on the screen.
        gradient_count: (A k,) over how many steps.

    Source: Scaffold-GS, arXiv 2312.00109, section 3.3, in its released form; arXiv 2412.03428, section 4.1.
    """

    def __init__(
        self, anchors: Anchors, optimizer: Adam, settings: GrowthSettings | None = None, seed: int = 0
    ) -> None:
        """Watch anchors that an optimiser trains; `seed` is of the random choice among candidates."""
        self.anchors = anchors
        self.optimizer = optimizer
        self.settings = settings or GrowthSettings()
        self._draw = torch.Generator().manual_seed(seed)
        count = len(anchors)
        like = anchors.positions
        self.opacity_sum, self.seen = like.new_zeros(count), like.new_zeros(count)
        slots = count * anchors.per_anchor
        self.gradient_sum, self.gradient_count = like.new_zeros(slots), like.new_zeros(slots)

    def advance(
        self,
        step: int,
        decoded: Decoded,
        visible: Int[Tensor, " v"],
        out: RenderOut,
        weights: Callable[[], Float[Tensor, " a"]] | None = None,
    ) -> Update | None:
        """Take in a step after its `backward` and before the optimiser's, and update the anchors when it is time.

        Args:
            step: counted from 1, as released.
            decoded: what was rendered.
            visible: the anchors that it was decoded from.
            out: the rendering, tracked.
            weights: asked for every anchor's largest blending weight where `prune` is "weight".

        Raises:
            BadInputError: see `update`.
        """
        settings = self.settings
        if not settings.first_statistics < step < settings.stop:
            return None
        self.observe(decoded, visible, out.screen_gradients(), out.visible)
        if step <= settings.start or step % settings.interval:
            return None
        asked = weights() if weights is not None and settings.prune == "weight" else None
        return self.update(asked)

    @torch.no_grad()
    def observe(
        self,
        decoded: Decoded,
        visible: Int[Tensor, " v"],
        screen_gradients: Float[Tensor, "m 2"],
        rendered: Int[Tensor, " r"],
    ) -> None:
        """Add one step to the statistics.

        Args:
            decoded: what was rendered.
            visible: the anchors that it was decoded from.
            screen_gradients: of every decoded primitive, in normalised device units.
            rendered: those of the primitives that reached a pixel.
        """
        self.opacity_sum[visible] += decoded.neural_opacities.clamp(min=0).sum(-1)
        self.seen[visible] += 1
        slots = decoded.slots[rendered]
        self.gradient_sum[slots] += screen_gradients[rendered].norm(dim=-1)
        self.gradient_count[slots] += 1

    @torch.no_grad()
    def update(self, weights: Float[Tensor, " a"] | None = None) -> Update:
        """Add anchors, prune anchors, and cut the extents; see `GrowthSettings`.

        Where training has made everything transparent, no anchor is left.

        Args:
            weights: every anchor's largest blending weight, wanted where `prune` is "weight".

        Raises:
            BadInputError: weights that are wanted and missing.
        """
        settings = self.settings
        before = len(self.anchors)
        prune = self._unseen(weights)
        eligible = self.gradient_count > settings.interval * settings.success * 0.5
        added = self._grow(eligible)
        self.gradient_sum[eligible], self.gradient_count[eligible] = 0, 0
        new = len(self.anchors) - before
        self._pad(new)
        kept = torch.cat([~prune, torch.ones(new, dtype=torch.bool, device=prune.device)])
        old_enough = self.seen > settings.interval * settings.success
        self.opacity_sum[old_enough], self.seen[old_enough] = 0, 0
        self._keep(kept)
        self.anchors.log_scalings[:, SCALINGS // 2 :].clamp_(max=settings.most_log_extent)
        return Update(tuple(added), int(prune.sum()))

    def state(self) -> dict[str, Tensor]:
        """Return the statistics and the state of the random choice."""
        return {
            "opacity_sum": self.opacity_sum,
            "seen": self.seen,
            "gradient_sum": self.gradient_sum,
            "gradient_count": self.gradient_count,
            "draw": self._draw.get_state(),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state; the anchors must have been restored to as many rows.

        Raises:
            BadInputError: statistics of another number of anchors.
        """
        if len(state["seen"]) != len(self.anchors):
            raise BadInputError(
                f"the statistics are of {len(state['seen'])} anchors, there are {len(self.anchors)}"
            )
        for name in ("opacity_sum", "seen", "gradient_sum", "gradient_count"):
            setattr(self, name, state[name].clone().to(self.anchors.positions))
        self._draw.set_state(state["draw"].cpu())

    def _unseen(self, weights: Tensor | None) -> Bool[Tensor, " a"]:
        """Return which anchors contribute too little; only those that were seen often enough to tell."""
        settings = self.settings
        if settings.prune == "weight":
            if weights is None or len(weights) != len(self.anchors):
                given = "none" if weights is None else f"{len(weights)}"
                raise BadInputError(
                    f"prune='weight' needs the largest blending weight of {len(self.anchors)} anchors, got {given}"
                )
            little = weights < settings.min_weight
        else:
            little = self.opacity_sum < settings.min_opacity * self.seen
        return little & (self.seen > settings.interval * settings.success)

    def _grow(self, eligible: Bool[Tensor, " slots"]) -> list[int]:
        """Add anchors level by level and return how many on each."""
        settings, anchors = self.settings, self.anchors
        limit = settings.most_anchors
        added: list[int] = []
        mean = self.gradient_sum / self.gradient_count.clamp(min=1)
        centres, parents = anchors.centres().reshape(-1, 3), anchors.features.detach()
        for level in range(settings.levels):
            wanted = eligible & (mean >= settings.gradient(level))
            if settings.keep == "random":
                lot = torch.rand(len(wanted), generator=self._draw)
                wanted &= (lot > 0.5 ** (level + 1)).to(wanted.device)
            # released quirk: where the first level adds nothing, the finer ones are not tried
            if (limit is not None and len(anchors) >= limit) or (level > 0 and added[0] == 0):
                added.append(0)
                continue
            chosen = wanted.nonzero()[:, 0]
            from_features = parents[chosen.div(anchors.per_anchor, rounding_mode="floor")]
            added.append(self._add(centres[chosen], from_features, settings.cell(level) * anchors.voxel))
        return added

    def _add(self, centres: Float[Tensor, "c 3"], features: Float[Tensor, "c f"], size: float) -> int:
        """Put an anchor into each cell of this size that holds a candidate and no anchor; return how many."""
        if not len(centres):
            return 0
        anchors = self.anchors
        held = torch.round(anchors.positions.double() / size)
        cells, owner = torch.round(centres.double() / size).unique(dim=0, return_inverse=True)
        _, place = torch.cat([held, cells]).unique(dim=0, return_inverse=True)
        free = ~torch.isin(place[len(held) :], place[: len(held)])
        count = int(free.sum())
        if not count:
            return 0
        merged = features.new_full((len(cells), features.shape[1]), -torch.inf)
        merged = merged.scatter_reduce(0, owner[:, None].expand_as(features), features, "amax")[free]
        like = anchors.positions
        rows = {
            "positions": (cells[free] * size).to(like),
            "features": merged,
            "offsets": like.new_zeros(count, anchors.per_anchor, 3),
            "log_scalings": like.new_full((count, SCALINGS), size).log(),
        }
        rows |= {name: like.new_zeros(count, getattr(anchors, name).shape[1]) for name in anchors.extra_names}
        append_rows(anchors, self.optimizer, rows)
        return count

    def _pad(self, new: int) -> None:
        """Give new anchors and their primitives statistics of zero."""
        for name, size in (("opacity_sum", new), ("seen", new), *self._per_slot(new)):
            old = getattr(self, name)
            setattr(self, name, torch.cat([old, old.new_zeros(size)]))

    def _keep(self, kept: Bool[Tensor, " a"]) -> None:
        slots = kept.repeat_interleave(self.anchors.per_anchor)
        keep_rows(self.anchors, self.optimizer, kept, self.anchors.row_names)
        self.opacity_sum, self.seen = self.opacity_sum[kept], self.seen[kept]
        self.gradient_sum, self.gradient_count = self.gradient_sum[slots], self.gradient_count[slots]

    def _per_slot(self, new: int) -> list[tuple[str, int]]:
        size = new * self.anchors.per_anchor
        return [("gradient_sum", size), ("gradient_count", size)]
