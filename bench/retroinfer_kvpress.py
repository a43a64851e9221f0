"""Run by `bench/retroinfer.py --peer` in kvpress's own environment: the presses' accuracy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

import torch
from kvpress import ExpectedAttentionPress, KnormPress, SnapKVPress
from safetensors.torch import load_file
from transformers import DynamicCache, Qwen2ForCausalLM

PRESSES = {
    "SnapKV": SnapKVPress,
    "ExpectedAttention": ExpectedAttentionPress,
    "Knorm": KnormPress,
}


def main(folder: Path, shares: dict[str, float]) -> None:
    """Print a table row for every press and share of tokens kept, after checking that no press is dense."""
    torch.set_num_threads(1)
    model = Qwen2ForCausalLM.from_pretrained(folder).eval()
    tasks = [load_file(path) for path in sorted(folder.glob("tasks-*.safetensors"))]
    dense = fmean(accuracy(model, task, None) for task in tasks)
    print(f"| dense, in kvpress's environment | {dense:.1f} |")
    for name, make in PRESSES.items():
        for label, share in shares.items():
            found = fmean(accuracy(model, task, make(compression_ratio=1 - share)) for task in tasks)
            print(f"| kvpress {name}, tokens kept: {label} | {found:.1f} |")


def accuracy(model: Qwen2ForCausalLM, task: dict[str, torch.Tensor], press: object) -> float:
    """Return the per cent of right answers; the press compresses the context before any question."""
    cache, (_, tokens) = DynamicCache(), task["context"].shape
    right = []
    with torch.no_grad():
        if press is None:
            model(task["context"], past_key_values=cache)
        else:
            with press(model):  # type: ignore[operator]
                model(task["context"], past_key_values=cache)
        for number, asked in enumerate(task["questions"].T):
            # The cache is shorter than the text, so positions are given.
            place = torch.tensor([tokens + number])
            logits = model(
                asked[:, None], past_key_values=cache, position_ids=place[None], cache_position=place
            ).logits
            right.append(float((logits[:, -1].argmax(-1) == task["answers"][:, number]).float().mean()))
    return 100 * fmean(right)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
