"""A moving scene as one file: what rendering needs, and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from papertrial.errors import BadInputError
from papertrial.scenes.geometry_metrics import file_bytes
from papertrial.scenes.modec_gs.scene import GATES, ModecScene
from papertrial.scenes.modec_gs.settings import SceneSettings
from papertrial.scenes.scaffold import Anchors
from papertrial.scenes.snapshots import Snapshot, read_snapshot, write_snapshot

_BORDERS, _KIND = "borders", "modec_gs"


def save_scene(path: Path, scene: ModecScene) -> int:
    """Write a scene into one safetensors file and return how many bytes it has.

    Stored are the anchors (places, features, offsets, scalings, gates), the decoder, fields and networks of the
    deformations in float32, and the segments' borders where anchors move. Scaffold-GS's base rotation and opacity of
    each anchor, which rendering never reads, are not.

    Raises:
        BadInputError: the folder cannot be written to.
    """
    tensors = {name: one.detach().float() for name, one in scene.state_dict().items()}
    if scene.settings.moves_anchors:
        tensors[_BORDERS] = scene.intervals.borders
    facts = {"kind": _KIND, "settings": asdict(scene.settings), "voxel": scene.anchors.voxel}
    write_snapshot(path, Snapshot(tensors, facts))
    return file_bytes(path)


def load_scene(path: Path) -> ModecScene:
    """Read a scene that `save_scene` wrote; it renders the same images to the bit.

    Raises:
        BadInputError: no such file, a damaged one, or one of something else.
    """
    found = read_snapshot(path)
    if found.facts.get("kind") != _KIND:
        raise BadInputError(f"{path} holds no moving scene, but {found.facts.get('kind', 'something')!r}")
    try:
        return _restored(found)
    except (KeyError, TypeError, IndexError, RuntimeError) as problem:
        fault = str(problem).partition("\n")[2].strip() or str(problem)
        raise BadInputError(f"{path} lacks parts of a moving scene, or has others: {fault}") from problem


def _restored(found: Snapshot) -> ModecScene:
    """Return the scene that a file holds; raises whatever a missing part leads to."""
    settings = SceneSettings.from_facts(found.facts["settings"])
    tensors = dict(found.tensors)
    borders = tensors.pop(_BORDERS, None)
    features, offsets = tensors["anchors.features"], tensors["anchors.offsets"]
    anchors = Anchors(
        tensors["anchors.positions"],
        tensors["anchors.log_scalings"],
        found.facts["voxel"],
        per_anchor=offsets.shape[1],
        feature_size=features.shape[1],
        extras={GATES: settings.gate_logits} if settings.gate_logits else None,
    )
    boxes = [one for name, one in tensors.items() if name.endswith(".field.box")]
    low, high = torch.aminmax(anchors.positions, dim=0)
    box = boxes[0] if boxes else torch.stack([low - 1, high + 1])
    scene = ModecScene(anchors, settings, _around(box, anchors.positions))
    scene.load_state_dict(tensors)
    if borders is not None:
        scene.intervals.borders = borders
    return scene


def _around(box: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return a box that also holds anchors that grew beyond it; the stored one takes its place afterwards."""
    return torch.stack([torch.minimum(box[0], points.amin(0)), torch.maximum(box[1], points.amax(0))])
