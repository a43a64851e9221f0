"""RTN, GPTQ, AWQ, SmoothQuant and BiLLM on any Llama-like model. Source: arXiv 2505.02214."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.quantized_checkpoints import load_quantized, save_quantized
    from papertrial.efficient.qwen3_quantization.awq import AwqOptions, clip_limits, search_scales
    from papertrial.efficient.qwen3_quantization.billm import BillmOptions, billm_weight
    from papertrial.efficient.qwen3_quantization.calibration_text import (
        calibration_blocks,
        calibration_windows,
        random_tokens,
    )
    from papertrial.efficient.qwen3_quantization.gptq import GptqOptions, gptq_weight, inverse_factor
    from papertrial.efficient.qwen3_quantization.grids import GridOptions, fit_grid, round_weight
    from papertrial.efficient.qwen3_quantization.quantize import is_quantized, quantize_model
    from papertrial.efficient.qwen3_quantization.report import LinearReport, QuantizationReport
    from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
    from papertrial.efficient.qwen3_quantization.smoothquant import smooth_norm, smoothing_scales
    from papertrial.efficient.qwen3_quantization.study_table import as_markdown, study_table

__all__ = [
    "AwqOptions",
    "BillmOptions",
    "GptqOptions",
    "GridOptions",
    "LinearReport",
    "QuantizationReport",
    "QuantizationSettings",
    "as_markdown",
    "billm_weight",
    "calibration_blocks",
    "calibration_windows",
    "clip_limits",
    "fit_grid",
    "gptq_weight",
    "inverse_factor",
    "is_quantized",
    "load_quantized",
    "quantize_model",
    "random_tokens",
    "round_weight",
    "save_quantized",
    "search_scales",
    "smooth_norm",
    "smoothing_scales",
    "study_table",
]

_ROOM = "qwen3_quantization"
_MODULE_OF = {
    "AwqOptions": f"{_ROOM}.awq",
    "BillmOptions": f"{_ROOM}.billm",
    "GptqOptions": f"{_ROOM}.gptq",
    "GridOptions": f"{_ROOM}.grids",
    "LinearReport": f"{_ROOM}.report",
    "QuantizationReport": f"{_ROOM}.report",
    "QuantizationSettings": f"{_ROOM}.settings",
    "as_markdown": f"{_ROOM}.study_table",
    "billm_weight": f"{_ROOM}.billm",
    "calibration_blocks": f"{_ROOM}.calibration_text",
    "calibration_windows": f"{_ROOM}.calibration_text",
    "clip_limits": f"{_ROOM}.awq",
    "fit_grid": f"{_ROOM}.grids",
    "gptq_weight": f"{_ROOM}.gptq",
    "inverse_factor": f"{_ROOM}.gptq",
    "is_quantized": f"{_ROOM}.quantize",
    "load_quantized": "quantized_checkpoints",
    "quantize_model": f"{_ROOM}.quantize",
    "random_tokens": f"{_ROOM}.calibration_text",
    "round_weight": f"{_ROOM}.grids",
    "save_quantized": "quantized_checkpoints",
    "search_scales": f"{_ROOM}.awq",
    "smooth_norm": f"{_ROOM}.smoothquant",
    "smoothing_scales": f"{_ROOM}.smoothquant",
    "study_table": f"{_ROOM}.study_table",
}

# A room's trial and card are read without torch. Saving and loading are the corridor's.
__getattr__ = lazily("papertrial.efficient", _MODULE_OF)
