"""Models of COLMAP: posed photographs and their sparse points, as text and as binary files."""

from __future__ import annotations

from papertrial.lazy import lazily

__all__ = [
    "CameraRecord",
    "ImageRecord",
    "Model",
    "PointCloud",
    "Posed",
    "load_images",
    "read_model",
    "write_model",
]

_MODULE_OF = {
    "CameraRecord": "model",
    "ImageRecord": "model",
    "Model": "model",
    "PointCloud": "model",
    "Posed": "photographs",
    "load_images": "photographs",
    "read_model": "files",
    "write_model": "files",
}
__getattr__ = lazily(__name__, _MODULE_OF)
