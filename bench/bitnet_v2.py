"""Packed ternary generation on the CPU, beside transformers' packed BitLinear and full-precision weights.

    python bench/bitnet_v2.py             # equality, then milliseconds a token, in turn; Markdown
    python bench/bitnet_v2.py --eager     # transformers' layer without torch's compiler

transformers is this project's own dependency, so the peer needs no environment of its own. All models have the same
shapes; the two packed INT8 ones hold the same bytes and give the same logits.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext

import torch

from papertrial.efficient.bitnet_v2.convert import BitNetOptions, use_bitnet
from papertrial.efficient.bitnet_v2.packed import use_packed
from papertrial.efficient.bitnet_v2.peers import transformers_bitnet, use_transformers_packed
from papertrial.efficient.bitnet_v2.toy import toy_bitnet


def models(hidden: int, ffn: int, layers: int) -> dict[str, torch.nn.Module]:
    """Return every contestant, by the name it has in the table."""
    sizes = {"vocabulary": 256, "hidden": hidden, "ffn": ffn, "layers": layers, "heads": 16}
    full, half, theirs, ours, v2 = (toy_bitnet(**sizes) for _ in range(5))
    half.to(torch.bfloat16)
    use_transformers_packed(theirs)
    use_bitnet(ours, BitNetOptions(rotation="none"))
    use_packed(ours)
    use_bitnet(v2, BitNetOptions(activation_bits=4))
    use_packed(v2)
    return {
        "float32": full,
        "bfloat16": half,
        "transformers packed BitLinear": theirs,
        "packed, INT8, no rotation": ours,
        "packed, INT4, rotated (BitNet v2)": v2,
    }


def main() -> None:
    """Check equality and time all contestants, token by token in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--ffn", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=15)
    given = parser.parse_args()
    transformers_bitnet()
    import torch._dynamo

    contestants = models(given.hidden, given.ffn, given.layers)
    with torch.no_grad(), torch._dynamo.config.patch(disable=True) if given.eager else nullcontext():
        prompt = torch.arange(16)[None]
        outs = {n: model(input_ids=prompt, use_cache=True) for n, model in contestants.items()}
        first, second = (
            outs[n].logits for n in ("transformers packed BitLinear", "packed, INT8, no rotation")
        )
        print(f"Largest difference of the INT8 logits: {float((first - second).abs().max()):.1e}\n")
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(given.tokens + 3):
            for name, model in contestants.items():
                token = outs[name].logits[:, -1:].argmax(-1)
                start = time.perf_counter()
                outs[name] = model(
                    input_ids=token, past_key_values=outs[name].past_key_values, use_cache=True
                )
                if turn >= 3:
                    seconds[name].append(time.perf_counter() - start)
    count = given.layers * (4 * given.hidden**2 + 3 * given.hidden * given.ffn)
    mode = "eager" if given.eager else "compiled"
    print(
        f"{count / 1e6:.0f} M ternary weights, one sequence, torch {torch.__version__}, transformers' layer {mode}\n"
    )
    print("| weights | ms a token | tokens/s | times as fast as transformers | as float32 |")
    print("|---|---|---|---|---|")
    for name, taken in seconds.items():

        def ratio(to: str, taken: list[float] = taken) -> str:
            return f"{statistics.median(a / b for a, b in zip(seconds[to], taken, strict=True)):.1f}"

        middle = statistics.median(taken)
        versus = f"{ratio('transformers packed BitLinear')} | {ratio('float32')}"
        print(f"| {name} | {1000 * middle:.1f} | {1 / middle:.0f} | {versus} |")


if __name__ == "__main__":
    main()
