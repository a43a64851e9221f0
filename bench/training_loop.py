"""What the training loop costs over a bare one: the same model, batches and optimizer, step by step.

Run: OMP_NUM_THREADS=1 python bench/training_loop.py [steps]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import torch

from papertrial.data.tokens import batches
from papertrial.models import load_causal_lm
from papertrial.training import learning_rate_factor, train

SHAPES = ((32, 4, 16), (64, 16, 64), (128, 16, 128))
"""Hidden size, batch size and length."""


Parts = tuple[torch.nn.Module, Iterator[torch.Tensor], torch.optim.Optimizer]


def parts(hidden: int, batch: int, length: int) -> Parts:
    model = load_causal_lm("tiny-llama", vocab_size=256, hidden_size=hidden, intermediate_size=4 * hidden)
    blocks = torch.randint(0, 256, (64, length), generator=torch.Generator().manual_seed(0))
    return model, batches(blocks, batch), torch.optim.AdamW(model.parameters(), lr=1e-3)


def bare(hidden: int, batch: int, length: int, steps: int) -> float:
    model, data, optimizer = parts(hidden, batch, length)
    model.train()
    start = time.perf_counter()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * learning_rate_factor(step, steps)
        tokens = next(data)
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    return (time.perf_counter() - start) / steps


def ours(hidden: int, batch: int, length: int, steps: int) -> float:
    model, data, optimizer = parts(hidden, batch, length)
    start = time.perf_counter()
    train(model, data, optimizer, steps=steps, clip=1.0)
    return (time.perf_counter() - start) / steps


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {steps} steps a run, median of 9 pairs\n"
    )
    print("| hidden × batch × length | bare, ms/step | train(), ms/step | ratio |")
    print("|---|---|---|---|")
    for shape in SHAPES:
        bare(*shape, 3), ours(*shape, 3)
        pairs = [(bare(*shape, steps), ours(*shape, steps)) for _ in range(9)]
        base, loop = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {' × '.join(map(str, shape))} | {base:.2f} | {loop:.2f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
