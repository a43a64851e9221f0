"""Serving: long context, sparse and linear attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.serving.caches import GrowingLayer, LayerwiseCache, growing_cache
    from papertrial.serving.dense import grouped_attention
    from papertrial.serving.registration import register_attention, use_serving_attention
    from papertrial.serving.retroinfer import IndexSettings, RetroCache, RetroStats, attach

_MODULE_OF = {
    "GrowingLayer": "caches",
    "LayerwiseCache": "caches",
    "growing_cache": "caches",
    "grouped_attention": "dense",
    "register_attention": "registration",
    "use_serving_attention": "registration",
    "IndexSettings": "retroinfer",
    "RetroCache": "retroinfer",
    "RetroStats": "retroinfer",
    "attach": "retroinfer",
}

__all__ = [
    "GrowingLayer",
    "IndexSettings",
    "LayerwiseCache",
    "RetroCache",
    "RetroStats",
    "attach",
    "grouped_attention",
    "growing_cache",
    "register_attention",
    "use_serving_attention",
]

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
