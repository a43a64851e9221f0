"""What a moving scene is made of, and the variants that are held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.hexplane import Penalty
from papertrial.scenes.splatting.primitives import NEAR

GLOBAL_PENALTY = Penalty(variation=1e-4, time=5e-4, one=5e-5)
LOCAL_PENALTY = Penalty(variation=2e-4, time=1e-3, one=1e-4)
GATES: Mapping[str, int] = {"none": 0, "one": 1, "two": 2}  # logits of each anchor
LOCALS = ("none", "gaussians", "anchors")


@dataclass(frozen=True)
class FieldSettings:
    """Cells and channels of a six-plane field.

    Attributes:
        spatial: cells along x, y and z at the first scale.
        temporal: cells along time.
        channels: of every plane.
        scales: by which `spatial` is multiplied.
        penalty: weights of the regularisers.
    """

    spatial: int = 64
    temporal: int = 100
    channels: int = 16
    scales: tuple[int, ...] = (1, 2)
    penalty: Penalty = LOCAL_PENALTY


GLOBAL_FIELD = FieldSettings(32, 10, 16, penalty=GLOBAL_PENALTY)
LOCAL_FIELD = FieldSettings()
LARGE_CHANNELS = 32  # of 4DGS's field, and of both fields before the paper makes them small


@dataclass(frozen=True)
class SceneSettings:
    """What a moving scene is made of.

    Attributes:
        moves_anchors: whether anchors are deformed at the start of each segment (global anchor deformation).
        local: what is deformed at the frame's own time: the decoded "gaussians", the "anchors" once more (the
            implicit variant), or "none".
        gates: of the global deformation, for each anchor: "two" logits (the paper's setting for each data set), "one"
            that serves as both (the released code's default) or "none".
        segments: of time.
        global_field: read at the segments' starts.
        local_field: read at the frames' times.
        hidden: width of the deformation networks.
        zero_start: whether nothing is deformed at first; the released networks begin with Xavier-uniform weights.
        time_range: "full", or "half" of the fields' time axis; see `HexPlane`.
        near: depth up to which nothing is drawn, in scene units; see `cameras.near_plane`.

    Raises:
        BadInputError: an unknown name, or no segment.
    """

    moves_anchors: bool = True
    local: str = "gaussians"
    gates: str = "two"
    segments: int = 8
    global_field: FieldSettings = GLOBAL_FIELD
    local_field: FieldSettings = LOCAL_FIELD
    hidden: int = 128
    zero_start: bool = True
    time_range: str = "full"
    near: float = NEAR

    def __post_init__(self) -> None:
        for name, given, known in (
            ("local deformation", self.local, LOCALS),
            ("gates", self.gates, tuple(GATES)),
            ("time_range", self.time_range, ("full", "half")),
        ):
            if given not in known:
                raise unknown(name, given, known)
        if self.near < 0:
            raise BadInputError(f"near must be 0 or more, got {self.near}")
        if self.segments < 1 or self.hidden < 1:
            raise BadInputError(
                f"segments and hidden must be at least 1, got {self.segments} and {self.hidden}"
            )

    @property
    def gate_logits(self) -> int:
        """How many gate logits each anchor stores: none where anchors do not move."""
        return GATES[self.gates] if self.moves_anchors else 0

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> SceneSettings:
        """Return the settings that `dataclasses.asdict` turned into plain values."""
        fields = {
            name: FieldSettings(
                **{
                    **facts[name],
                    "scales": tuple(facts[name]["scales"]),
                    "penalty": Penalty(*facts[name]["penalty"]),
                }
            )
            for name in ("global_field", "local_field")
        }
        return cls(**{**facts, **fields})


@dataclass(frozen=True)
class Variant:
    """How a variant departs from the method: fields of `SceneSettings`, and whether its segments adjust."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    adjusts: bool = False

    def settings(self, method: SceneSettings) -> SceneSettings:
        """Return the variant of a method's settings."""
        return replace(method, **self.changes)


# Rows of the paper's table 3 by letter; its fields are large up to (d) and small from (e) on.
VARIANTS: Mapping[str, Variant] = {
    "4dgs": Variant(
        {"moves_anchors": False}
    ),  # (a): one field moves Gaussians, decoded from anchors that stay
    "anchors-alone": Variant({"moves_anchors": False, "local": "anchors"}),  # (b)
    "two-anchor-stages": Variant({"local": "anchors"}),  # (c)
    "gad-lgd": Variant(),  # (d) to (f): by size of the fields and gates
    "modec": Variant(adjusts=True),  # (g)
    "still": Variant({"moves_anchors": False, "local": "none"}),  # none of them: nothing moves
}
