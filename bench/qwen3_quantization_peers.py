"""One decoder layer with Qwen3-0.6B's shapes, quantised by the peers and by us, in turn. Run by qwen3_quantization.py.

Equality first: GPTQ's relative output errors stand beside the times (the layer error must be as low), and for AWQ
the error of the whole layer's output.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import sys
import tempfile
import time
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen3Config, Qwen3ForCausalLM

HIDDEN, FFN, QUERIES, KEYS = 1024, 3072, 2048, 1024
SETS = (
    ({"q": (QUERIES, HIDDEN), "k": (KEYS, HIDDEN), "v": (KEYS, HIDDEN)}, HIDDEN),
    ({"o": (HIDDEN, QUERIES)}, QUERIES),
    ({"gate": (FFN, HIDDEN), "up": (FFN, HIDDEN)}, HIDDEN),
    ({"down": (HIDDEN, FFN)}, FFN),
)


def gptq(rounds: int) -> None:
    """Time Hessians and solving of the seven matrices, four sets of inputs."""
    import torch

    with contextlib.redirect_stdout(sys.stderr):  # it greets
        from gptqmodel.quantization import QuantizeConfig
        from gptqmodel.quantization.gptq import GPTQ

    from papertrial.efficient.qwen3_quantization.gptq import GptqOptions, gptq_weight, inverse_factor
    from papertrial.efficient.qwen3_quantization.grids import GridOptions
    from papertrial.efficient.qwen3_quantization.inputs import InputStatistics, relative_error

    generator = torch.Generator().manual_seed(0)
    batches, tokens = 8, 512
    problems = []
    for shapes, inputs in SETS:
        mixing = torch.randn(inputs, inputs, generator=generator) / inputs**0.5 + torch.eye(inputs)
        x = torch.randn(batches, tokens, inputs, generator=generator) @ mixing
        weights = {name: torch.randn(shape, generator=generator) / 32 for name, shape in shapes.items()}
        problems.append((x, weights))

    def ours() -> dict[str, torch.Tensor]:
        done = {}
        options = GptqOptions(GridOptions(4, 128))
        for x, weights in problems:
            seen = InputStatistics(moment=True)
            for batch in x:
                seen.add(batch)
            hessian = seen.moment() * (2 / batches)
            factor = inverse_factor(hessian, act_order=True)
            stacked = gptq_weight(
                torch.cat(list(weights.values())), hessian, options, factor=factor
            ).dequantize()
            done |= dict(zip(weights, stacked.split([len(w) for w in weights.values()]), strict=True))
        return done

    def peer() -> dict[str, torch.Tensor]:
        done = {}
        settings = QuantizeConfig(
            bits=4, group_size=128, desc_act=True, act_group_aware=False, damp_percent=0.01, sym=False
        )
        for x, weights in problems:
            tasks = {}
            for name, weight in weights.items():
                linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
                linear.weight.data.copy_(weight)
                tasks[name] = GPTQ(linear, qcfg=copy.deepcopy(settings))
                tasks[name].quantizer.configure(perchannel=True)
            leader, *others = tasks.values()  # one Hessian for all that read one input, as its own loop does
            for number, batch in enumerate(x):
                leader.add_batch(batch[None], None, batch_index=number)
            for other in others:
                other.adopt_hessian_from(leader)
            done |= {name: task.quantize(blocksize=128)[0].float() for name, task in tasks.items()}
        return done

    with contextlib.redirect_stdout(sys.stderr):
        results = {"gptqmodel 7.7.0": peer(), "papertrial": ours()}
    seconds: dict[str, list[float]] = {name: [] for name in results}
    for _ in range(rounds):
        for name, run in (("gptqmodel 7.7.0", peer), ("papertrial", ours)):
            start = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):  # the peer tells what it does
                run()
            seconds[name].append(time.perf_counter() - start)
    print(
        f"GPTQ, 4 bits, groups of 128, act-order, {batches} × {tokens} tokens; {torch.get_num_threads()} threads\n"
    )
    print("| program | seconds a layer | times as fast | relative output error: mean | q | o | up | down |")
    print("|---|---|---|---|---|---|---|---|")
    pairs = list(zip(seconds["gptqmodel 7.7.0"], seconds["papertrial"], strict=True))
    for name, done in results.items():
        errors = {}
        for x, weights in problems:
            flat = x.flatten(0, 1)
            for key, weight in weights.items():
                errors[key] = relative_error(done[key] - weight, weight, flat.T @ flat)
        faster = statistics.median(a / b for a, b in pairs) if name == "papertrial" else 1.0
        shown = " | ".join(f"{errors[key]:.2e}" for key in ("q", "o", "up", "down"))
        mean = statistics.mean(errors.values())
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {faster:.1f} | {mean:.2e} | {shown} |")


def awq(rounds: int, sequences: int, length: int) -> None:
    """Time AWQ on a model of one layer: without the clip search, which the peer lacks, and with it.

    Half the widths of Qwen3-0.6B: at full widths the peer takes minutes for its 60 candidates.
    """
    warnings.simplefilter("ignore")
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from loguru import logger

    from papertrial.data.tokens import byte_tokenizer
    from papertrial.efficient.qwen3_quantization.quantize import quantize_model
    from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings

    logger.remove()
    # On a machine without an accelerator the peer stops at pinning its cache; left where it is, it runs on.
    torch.Tensor.pin_memory = lambda tensor, *_, **__: tensor
    folder = tempfile.TemporaryDirectory()
    base = one_layer(folder.name)
    ids = torch.randint(512, (sequences, length))
    rows = Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": torch.ones_like(ids).tolist()})

    def peer() -> Qwen3ForCausalLM:
        model = copy.deepcopy(base)
        recipe = [
            AWQModifier(n_grid=20, duo_scaling=False),
            QuantizationModifier(scheme="W4A16_ASYM", targets=["Linear"], ignore=["lm_head"]),
        ]
        oneshot(
            model=model,
            dataset=rows,
            recipe=recipe,
            max_seq_length=length,
            num_calibration_samples=sequences,
            batch_size=8,
            pipeline="sequential",
            processor=byte_tokenizer(),  # never used: the rows are token ids
        )
        return model

    def ours(clip: bool, searched: int | None) -> Qwen3ForCausalLM:
        model = copy.deepcopy(base)
        quantize_model(model, QuantizationSettings("awq", 4, 128, clip=clip, search_tokens=searched), ids)
        return model

    default = QuantizationSettings().search_tokens
    contestants = {
        "llmcompressor 0.14.0.1": peer,
        "papertrial, scales alone, all tokens": lambda: ours(False, None),
        "papertrial, scales and clipping, all tokens": lambda: ours(True, None),
        f"papertrial, scales alone, {default} tokens or more": lambda: ours(False, default),
        f"papertrial, scales and clipping, {default} tokens or more (default)": lambda: ours(True, default),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    errors: dict[str, str] = {}
    with torch.no_grad():
        ids_unread = torch.randint(512, (8, length))
        whole = [base.model(some).last_hidden_state for some in (ids[:64], ids_unread)]
        ours(True, default)  # compiled loops
        peer() if rounds > 1 else None
        for _ in range(rounds):
            for name, run in contestants.items():
                start = time.perf_counter()
                with contextlib.redirect_stdout(sys.stderr):
                    quantised = run()
                seconds[name].append(time.perf_counter() - start)
                hidden = [quantised.model(some).last_hidden_state for some in (ids[:64], ids_unread)]
                errors[name] = " | ".join(
                    f"{float((new - old).square().sum() / old.square().sum()):.2e}"
                    for new, old in zip(hidden, whole, strict=True)
                )
    print(
        f"AWQ, 4 bits, groups of 128, hidden {HIDDEN // 2}, ffn {FFN // 2}, {sequences} × {length} tokens; "
        f"{torch.get_num_threads()} threads, {rounds} rounds\n"
    )
    print(
        "| program | seconds a layer | times as fast | error of the output, calibration | unread tokens |\n"
        "|---|---|---|---|---|"
    )
    first = next(iter(contestants))
    for name in contestants:
        faster = statistics.median(a / b for a, b in zip(seconds[first], seconds[name], strict=True))
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {faster:.1f} | {errors[name]} |")
    work, speed = awq_work(base.config, sequences, length), matrix_speed()
    bound = work / speed
    print(
        f"\nEvery candidate over every token is {work:.0f} GFLOP, {bound:.2f} s at the {speed:.0f} GFLOP/s of this "
        f"machine's matrix product: with equal work no program is more than "
        f"{statistics.median(seconds[first]) / bound:.1f} times as fast as {first}.\n"
    )


def one_layer(folder: str) -> Qwen3ForCausalLM:
    """Return a model of one layer with outlier channels, read from `folder`: the peer reads its configuration there."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=512,
        hidden_size=HIDDEN // 2,
        intermediate_size=FFN // 2,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=128,
    )
    base = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        base.model.layers[0].input_layernorm.weight[:4] *= 30
        base.model.layers[0].post_attention_layernorm.weight[:4] *= 30
    base.save_pretrained(folder)
    return Qwen3ForCausalLM.from_pretrained(folder).eval()


def awq_work(config: Qwen3Config, sequences: int, length: int, candidates: int = 20) -> float:
    """Return the GFLOP of running every candidate of a layer's three units over every token."""
    hidden, heads, keys = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    projections = hidden * config.head_dim * (2 * heads + 2 * keys)
    scores = 2 * length * heads * config.head_dim  # of a token with all others, and their mean
    feedforward = 3 * hidden * config.intermediate_size
    down = hidden * config.intermediate_size
    return 2 * candidates * sequences * length * (projections + scores + feedforward + down) / 1e9


def matrix_speed() -> float:
    """Return the GFLOP/s of a large matrix product, the best of five."""
    import torch

    a, taken = torch.randn(2048, 2048), []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        taken.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(taken) / 1e9


def main() -> None:
    """Parse the command line and run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["gptq", "awq"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.part == "gptq":
        gptq(given.rounds)
        return
    awq(given.rounds, 8, 128)
    awq(1, 32, 512)  # nearer to a calibration in earnest; the peer takes half a minute


if __name__ == "__main__":
    main()
