from __future__ import annotations

import numpy as np
import pytest

from papertrial.posttrain.prmbench.rows import Item, items_of, read_rows

KINDS = ("redundency", "circular", "counterfactual", "deception", "multi_solutions", "correct")


@pytest.fixture
def row():
    """Return a function that makes one row of the official format, with any field replaced."""

    def make(**changed):
        return {
            "idx": "prm_test_x_1",
            "classification": "counterfactual",
            "original_question": "2 pens cost 6. Price of one?",
            "modified_question": "2 pens cost 6. Price of one?",
            "original_process": ["2p = 6.", "p = 3."],
            "modified_process": ["2p = 6.", "Dividing by 2 gives p = 4.", "p = 4."],
            "modified_steps": [2],
            "error_steps": [2, 3],
            "reason": "6/2 is 3.",
        } | changed

    return make


@pytest.fixture(scope="session")
def random_items():
    """Return a function that makes items of several classes with random errors, and their controls."""

    def make(seed: int, problems: int = 12) -> list[Item]:
        rng = np.random.default_rng(seed)
        items = []
        for number in range(problems):
            for kind in KINDS:
                count = int(rng.integers(1, 7))
                with_errors = kind not in ("multi_solutions", "correct")
                errors = np.flatnonzero(rng.random(count) < 0.3) + 1 if with_errors else np.array([], int)
                # Now and then the first listed error lies outside, as in the released files.
                listed = [int(one) for one in errors] or ([count + 1] if with_errors else [])
                items.append(
                    Item(
                        id=f"{kind}_{number}",
                        idx=str(number),
                        classification=kind,
                        question=f"q{number}",
                        steps=tuple(f"step {at}" for at in range(count)),
                        errors=tuple(int(one) for one in errors),
                        first_listed=min(listed, default=0),
                        problem=f"q{number}",
                    )
                )
        return items

    return make


@pytest.fixture
def real_items(shared_data):
    """The released rows that lie beside this checkout."""
    return items_of(read_rows(shared_data("prmbench")))[0]
