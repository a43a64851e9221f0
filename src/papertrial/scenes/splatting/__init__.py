"""Differentiable splatting: one rasteriser, two kinds of primitives, several back ends that agree."""

from __future__ import annotations

from papertrial.lazy import lazily

__all__ = [
    "Primitives",
    "RenderOut",
    "Rules",
    "check_inputs",
    "project",
    "quaternion_to_matrix",
    "rasterize",
    "rasterize_dense",
    "rasterize_packed",
    "warm_up",
]

_MODULE_OF = {
    "Primitives": "primitives",
    "RenderOut": "primitives",
    "Rules": "primitives",
    "check_inputs": "primitives",
    "quaternion_to_matrix": "geometry",
    "project": "geometry",
    "rasterize": "rendering",
    "rasterize_dense": "dense",
    "rasterize_packed": "packed",
    "warm_up": "compiled",
}
__getattr__ = lazily(__name__, _MODULE_OF)
