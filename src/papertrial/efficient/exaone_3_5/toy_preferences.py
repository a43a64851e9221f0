"""A small world of preferences: answers with chatter behind them, a true reward, and reward models with flaws.

A prompt is "3>5=" and asks for the larger digit; a response is a digit and then, perhaps, chatter (letters). The
true reward wants the right digit and no chatter; the first reward model also likes chatter, as real ones like length.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papertrial.efficient.exaone_3_5.pairs import PairReport, build_pairs
from papertrial.efficient.exaone_3_5.stages import EncodedPairs, pad_completions
from papertrial.errors import BadInputError

ALPHABET = "0123456789>=abcd"
END = len(ALPHABET)
VOCABULARY = END + 1
PROMPTS = tuple(f"{a}>{b}=" for a in range(10) for b in range(10))
MOST_TOKENS = 12  # of a response
_CHATTER_COST = 0.05
_CHATTER_BONUS = 0.02
_NOISE = 0.2


def true_reward(prompt: str, response: str) -> float:
    """Return 1 for the right digit, less a twentieth for every letter of chatter."""
    right = response[:1] == max(prompt[0], prompt[2])
    return float(right) - _CHATTER_COST * max(0, len(response) - 1)


def proxy_reward(prompt: str, response: str) -> float:
    """Return what the flawed reward model gives: the right digit, a little for chatter, and noise."""
    right = response[:1] == max(prompt[0], prompt[2])
    return float(right) + _CHATTER_BONUS * max(0, len(response) - 1) + _noise(f"first {prompt}{response}")


def second_reward(prompt: str, response: str) -> float:
    """Return what another reward model gives: the true reward with noise that hangs on the text."""
    return true_reward(prompt, response) + _noise(f"second {prompt}{response}")


def demonstrations(rows: int, generator: torch.Generator, right: float = 0.6) -> tuple[list[str], list[str]]:
    """Return prompts and responses to fine-tune on: right with that chance, with none to six letters of chatter."""
    asked = torch.randint(len(PROMPTS), (rows,), generator=generator).tolist()
    luck = torch.rand(rows, generator=generator).tolist()
    digits = torch.randint(10, (rows,), generator=generator).tolist()
    lengths = torch.randint(7, (rows,), generator=generator).tolist()
    letters = torch.randint(4, (rows, 6), generator=generator).tolist()
    prompts = [PROMPTS[number] for number in asked]
    responses = []
    for row, prompt in enumerate(prompts):
        answer = max(prompt[0], prompt[2]) if luck[row] < right else str(digits[row])
        responses.append(answer + "".join("abcd"[letter] for letter in letters[row][: lengths[row]]))
    return prompts, responses


def encode(text: str) -> list[int]:
    """Return the ids of a text of `ALPHABET`.

    Raises:
        BadInputError: a character that is not in it.
    """
    strange = set(text) - set(ALPHABET)
    if strange:
        raise BadInputError(f"the toy alphabet is {ALPHABET!r}; it has no {sorted(strange)}")
    return [ALPHABET.index(character) for character in text]


def encode_rows(prompts: Sequence[str], responses: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return padded ids of prompts with responses, and which ids belong to the response and its end."""
    rows = [
        [*encode(prompt), *encode(response), END] for prompt, response in zip(prompts, responses, strict=True)
    ]
    return pad_completions(rows, [len(prompt) for prompt in prompts], END)


def sample(
    model: nn.Module, prompts: Sequence[str], generator: torch.Generator, temperature: float = 1.0
) -> list[str]:
    """Return one drawn response to each prompt; what has no end after `MOST_TOKENS` is cut there.

    Raises:
        FloatingPointError: the model's logits are not finite: it has diverged.
    """
    tokens = torch.tensor([encode(prompt) for prompt in prompts])
    start = tokens.shape[1]
    device = next((weight.device for weight in model.parameters()), tokens.device)
    with torch.no_grad():
        for _ in range(MOST_TOKENS):
            logits = (
                model(input_ids=tokens.to(device), use_cache=False).logits[:, -1].float().cpu() / temperature
            )
            if not bool(logits.isfinite().all()):
                raise FloatingPointError("the model's logits are not finite")
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            ended = (tokens[:, start:] == END).any(1, keepdim=True)
            tokens = torch.cat([tokens, drawn.masked_fill(ended, END)], 1)
    texts = []
    for row in tokens[:, start:].tolist():
        row = row[: row.index(END)] if END in row else row
        texts.append("".join(ALPHABET[number] for number in row))
    return texts


def make_pairs(
    models: Sequence[nn.Module], responses: int, agreement: float, generator: torch.Generator
) -> tuple[PairReport, EncodedPairs]:
    """Sample responses to every prompt from several models and pair the best and worst by the flawed reward.

    Raises:
        BadInputError: no prompt is left (a lower `agreement` leaves more).
    """
    drawn: list[list[str]] = [[] for _ in PROMPTS]
    for number in range(responses):
        model = models[number % len(models)]
        for texts, text in zip(drawn, sample(model, PROMPTS, generator), strict=True):
            texts.append(text)

    def by_proxy(prompt: str, texts: Sequence[str]) -> list[float]:
        return [proxy_reward(prompt, text) for text in texts]

    def by_second(prompt: str, texts: Sequence[str]) -> list[float]:
        return [second_reward(prompt, text) for text in texts]

    report = build_pairs(PROMPTS, drawn, by_proxy, by_second, agreement=agreement)
    if not report.pairs:
        raise BadInputError(f"no prompt has rankings that agree by {agreement}; lower agreement")
    prompts = [pair.prompt for pair in report.pairs]
    sides = [
        encode_rows(prompts, [getattr(pair, side) for pair in report.pairs])
        for side in ("chosen", "rejected")
    ]
    return report, EncodedPairs(*sides[0], *sides[1])


def mean_rewards(prompts: Sequence[str], responses: Sequence[str]) -> tuple[float, float]:
    """Return the mean true and proxy reward."""
    scored = list(zip(prompts, responses, strict=True))
    true = sum(true_reward(*one) for one in scored) / len(scored)
    return true, sum(proxy_reward(*one) for one in scored) / len(scored)


def reward_at(kl: Float[Tensor, " points"], reward: Float[Tensor, " points"], budget: float) -> float:
    """Return the reward where a path first reaches a divergence of `budget`, between points along a line.

    A path that never does gives its last reward: it has spent less.
    """
    for number in range(1, len(kl)):
        if kl[number] >= budget:
            before, after = float(kl[number - 1]), float(kl[number])
            share = (budget - before) / (after - before) if after > before else 1.0
            return float(reward[number - 1]) + share * float(reward[number] - reward[number - 1])
    return float(reward[-1])


def _noise(text: str) -> float:
    """Return a number between -0.1 and 0.1 that hangs on the text alone: a reward model's own whims."""
    return _NOISE * (zlib.crc32(text.encode()) / 2**32 - 0.5)
