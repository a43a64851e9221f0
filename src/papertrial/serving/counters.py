"""What one decode step must read from memory: counted, not measured, and so free of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepBytes:
    """Bytes that one decode step of one layer and sequence reads, by what they are.

    Attributes:
        index: summaries that are read to choose (centroids, page bounds).
        estimate: summaries that stand for tokens (summed values).
        exact: keys and values of the tokens attended exactly.
    """

    index: int = 0
    estimate: int = 0
    exact: int = 0

    @property
    def total(self) -> int:
        """Return all bytes read."""
        return self.index + self.estimate + self.exact


def token_bytes(tokens: int, dim: int, element: int) -> int:
    """Return the bytes of one head's keys and values; `element` is bytes per number."""
    return 2 * tokens * dim * element


def dense_step_bytes(tokens: int, kv_heads: int, dim: int, element: int) -> StepBytes:
    """Return what exact attention reads: every key and value once, whatever the number of query heads."""
    return StepBytes(exact=kv_heads * token_bytes(tokens, dim, element))
