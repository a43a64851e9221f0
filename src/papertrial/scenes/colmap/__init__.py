"""Models of COLMAP: posed photographs and their sparse points, as text and as binary files."""

from __future__ import annotations

from papertrial.lazy import lazily

__all__ = [
    "CameraRecord",
    "ImageRecord",
    "Model",
    "Photograph",
    "PointCloud",
    "Posed",
    "load_images",
    "load_photographs",
    "photographs_of",
    "read_model",
    "write_model",
]

_MODULE_OF = {
    "CameraRecord": "model",
    "ImageRecord": "model",
    "Model": "model",
    "Photograph": "photographs",
    "PointCloud": "model",
    "Posed": "photographs",
    "load_images": "photographs",
    "load_photographs": "photographs",
    "photographs_of": "photographs",
    "read_model": "files",
    "write_model": "files",
}
__getattr__ = lazily(__name__, _MODULE_OF)
