"""A user's own photographs turned into a scene: what all methods of `papertrial apply reconstruct` share."""

from __future__ import annotations

from papertrial.lazy import lazily

__all__ = [
    "Capture",
    "Priors",
    "Reconstruct",
    "Reconstruction",
    "load_capture",
    "predict_priors",
    "read_priors",
    "write_priors",
]

_MODULE_OF = {
    "Capture": "capture",
    "Priors": "priors",
    "Reconstruct": "deed",
    "Reconstruction": "reconstruction",
    "load_capture": "loading",
    "predict_priors": "predicting",
    "read_priors": "priors",
    "write_priors": "predicting",
}
__getattr__ = lazily(__name__, _MODULE_OF)
