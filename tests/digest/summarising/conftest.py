"""A paper with every role, and a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from papertrial.digest.collecting import Clock, PaperText, Section
from papertrial.digest.records import Paper

ABSTRACT = (
    "Training large models is costly. However, existing optimizers suffer from high memory. "
    "In this paper, we propose Foo, a new optimizer for small machines. "
    "We use a random projection that replaces the second moment, based on sketches. "
    "Foo achieves 87.5% accuracy and reduces memory by 3.2x compared with AdamW. "
    "These results suggest that practitioners can train on one GPU."
)


@pytest.fixture
def paper():
    return Paper(
        id="2505.03335", title="Foo: Optimizers for Small Machines", abstract=ABSTRACT, authors=("Ada A.",)
    )


@pytest.fixture
def text(paper):
    body = (
        Section("Abstract", "abstract", (ABSTRACT,)),
        Section("Introduction", "introduction", ("Many people train models on small machines every day.",)),
        Section("Method", "method", ("The projection consists of three stages that are trained together.",)),
        Section(
            "Results",
            "results",
            ("On MMLU, Foo reaches 61.2 points.",),
            ("Table 1: Scores.", "m | MMLU", "Foo | 61.2"),
        ),
    )
    return PaperText("hub", body)


@pytest.fixture
def clock():
    class Still(Clock):
        def now(self):
            return datetime(2025, 5, 8, tzinfo=UTC)

    return Still()
