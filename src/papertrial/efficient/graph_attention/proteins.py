"""Made-up protein sequences in which a token's neighbours matter, in the form of the paper's records.

A sequence is a hidden Markov chain over the twenty residues into which pairs of stems are planted: a short
word, and somewhere later its partner, each residue replaced by its mate and the order reversed, as the two
strands of a hairpin. The class at the end says which kinds of stems there are. Stems and class can be told
from other tokens only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from papertrial.errors import BadInputError

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
CLASSES = ("AH", "BS", "MIX", "COIL")
MARKS = ("<pad>", "<|begin_of_text|>", "<|sequence|>", "<|/sequence|>", "<|eot_id|>")
SPECIALS = (*MARKS, *(f"<|{name}|>" for name in CLASSES))
VOCABULARY = (*SPECIALS, *RESIDUES)
PAD = 0
_IDS = {token: number for number, token in enumerate(VOCABULARY)}
_STEM = 4
_STATES = 3
_STAY = 0.9


@dataclass(frozen=True)
class Protein:
    """One sequence.

    Attributes:
        residues: letters of `RESIDUES`.
        kind: one of `CLASSES`.
        partners: places (from 0) of residues that are determined by an earlier stem.
    """

    residues: str
    kind: str
    partners: tuple[int, ...]

    @property
    def text(self) -> str:
        """The record as the paper's training text."""
        return f"<|begin_of_text|><|sequence|>{self.residues}<|/sequence|><|{self.kind}|><|eot_id|>"


def make_proteins(count: int, length: int, seed: int) -> list[Protein]:
    """Draw sequences of one length; the chain and the mates are the same for all seeds.

    Raises:
        BadInputError: fewer than one, or too short for two pairs of stems with anything between.
    """
    if count < 1 or length < 6 * _STEM:
        raise BadInputError(
            f"proteins need count at least 1 and length at least {6 * _STEM}, got {count}, {length}"
        )
    language = random.Random(17)
    mates = dict(zip(RESIDUES, language.sample(RESIDUES, len(RESIDUES)), strict=True))
    emissions = [[language.expovariate(1.0) ** 2 for _ in RESIDUES] for _ in range(_STATES)]
    draw = random.Random(f"proteins {seed}")
    return [_protein(draw, length, mates, emissions) for _ in range(count)]


def _protein(
    draw: random.Random, length: int, mates: dict[str, str], emissions: Sequence[Sequence[float]]
) -> Protein:
    state, letters = draw.randrange(_STATES), []
    for _ in range(length):
        if draw.random() > _STAY:
            state = draw.randrange(_STATES)
        letters.append(draw.choices(RESIDUES, emissions[state])[0])
    kind = draw.choice(CLASSES)
    partners: list[int] = []
    halves = ((0, length // 2), (length // 2, length))
    for present, reverse, (start, stop) in zip(
        (kind in ("AH", "MIX"), kind in ("BS", "MIX")), (False, True), halves, strict=True
    ):
        if present:  # an alpha-like pair repeats its mates in order, a beta-like one in reverse
            first = draw.randrange(start, stop - 2 * _STEM - 1)
            second = draw.randrange(first + _STEM + 1, stop - _STEM + 1)
            word = [mates[letter] for letter in letters[first : first + _STEM]]
            letters[second : second + _STEM] = word[::-1] if reverse else word
            partners += range(second, second + _STEM)
    return Protein("".join(letters), kind, tuple(partners))


def encode(
    proteins: Sequence[Protein],
) -> tuple[Int[Tensor, "sequences tokens"], Bool[Tensor, "sequences tokens"]]:
    """Return token ids, and which of them an earlier stem or the whole sequence decides.

    All sequences have one length. Marked are the partners of stems and the class.
    """
    rows, marks = [], []
    for protein in proteins:
        ids = [
            _IDS["<|begin_of_text|>"],
            _IDS["<|sequence|>"],
            *(_IDS[letter] for letter in protein.residues),
        ]
        marked = [place in protein.partners for place in range(-2, len(protein.residues))]
        rows.append([*ids, _IDS["<|/sequence|>"], _IDS[f"<|{protein.kind}|>"], _IDS["<|eot_id|>"]])
        marks.append([*marked, False, True, False])
    return torch.tensor(rows), torch.tensor(marks)


def encode_record(residues: str, kind: str | None, length: int) -> list[int]:
    """Return the ids of a real record, padded or cut to `length` tokens; unknown letters are left out.

    Raises:
        BadInputError: no known residue.
    """
    known = [_IDS[letter] for letter in residues.upper() if letter in RESIDUES]
    if not known:
        raise BadInputError(f"{residues[:30]!r} holds no residue of {RESIDUES}")
    ids = [_IDS["<|begin_of_text|>"], _IDS["<|sequence|>"], *known, _IDS["<|/sequence|>"]]
    named = f"<|{kind}|>"
    ids += [*([_IDS[named]] if named in _IDS else []), _IDS["<|eot_id|>"]]
    return (ids + [PAD] * length)[:length]


def read_proteins(source: str, count: int, length: int, seed: int) -> Int[Tensor, "sequences tokens"]:
    """Return `count` strings of a data set with the columns `Sequence` and `Primary_SS_Type`, as token ids.

    Args:
        source: files or a hub data set, such as `lamm-mit/protein_secondary_structure_from_PDB`.
        count: how many; drawn by `seed`.
        length: tokens of a row, padded on the right.
        seed: draws them.

    Raises:
        BadInputError: nothing there, a column missing, or fewer strings than asked.
    """
    from papertrial.data.text import load_documents

    sequences = load_documents(source, field="Sequence")
    kinds = load_documents(source, field="Primary_SS_Type")
    if len(sequences) != len(kinds):
        raise BadInputError(
            f"{source} has {len(sequences)} values of Sequence and {len(kinds)} of Primary_SS_Type that are not empty"
        )
    if len(sequences) < count:
        raise BadInputError(
            f"{source} has {len(sequences)} sequences, and {count} are needed to train and validate"
        )
    chosen = random.Random(seed).sample(range(len(sequences)), count)
    return torch.tensor([encode_record(sequences[place], kinds[place], length) for place in chosen])
