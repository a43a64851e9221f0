"""Every number of a summary held to its paper; summaries held to their papers; what to do about the rest."""

from papertrial.digest.grounding.grounding import ABSTRACT, ground
from papertrial.digest.grounding.index import PaperIndex
from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.numbers import extract_numbers
from papertrial.digest.grounding.policies import POLICIES, Policy, absent_numbers, apply_policy
from papertrial.digest.grounding.topics import (
    TopicRank,
    TopicWeights,
    rank_within_day,
    topic_overlap,
    wrong_papers,
)

__all__ = [
    "ABSTRACT",
    "POLICIES",
    "Number",
    "PaperIndex",
    "Policy",
    "TopicRank",
    "TopicWeights",
    "absent_numbers",
    "apply_policy",
    "extract_numbers",
    "ground",
    "rank_within_day",
    "topic_overlap",
    "wrong_papers",
]
