"""Efficient training and inference: optimisers, quantisation, vocabularies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.apollo import Apollo, param_groups

_MODULE_OF = {"Apollo": "apollo", "param_groups": "apollo"}

__all__ = ["Apollo", "param_groups"]

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
