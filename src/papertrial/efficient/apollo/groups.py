"""Which weights of a model get low-rank moments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from papertrial.efficient.apollo.checks import matrix_shape
from papertrial.errors import BadInputError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def param_groups(
    model: nn.Module,
    *,
    rank: int,
    target: Sequence[str] = ("attn", "mlp"),
    weight_decay: float | None = None,
    dense_weight_decay: float | None = None,
    flatten: bool = False,
    **options: Any,
) -> list[dict[str, Any]]:
    """Split a model's parameters into a dense group and a low-rank one, with their names.

    Low-rank are the weights of the `nn.Linear` modules whose name contains one of `target`; all other
    parameters (embeddings, head, norms, biases) are dense. The dense group comes first, the low-rank one
    follows the order of the modules, and frozen parameters are kept, because the order numbers the
    projections' seeds.

    Args:
        model: any torch module; the names `attn` and `mlp` fit Llama, Qwen, Mistral, Gemma and their kin,
            `("attn", "ff.net")` a diffusers UNet, `("",)` every linear layer.
        rank: of the low-rank group, at most the smaller side of each of its weights.
        target: parts of module names.
        weight_decay: of the low-rank group; None leaves it to the optimizer.
        dense_weight_decay: of the dense group; None leaves it to the optimizer.
        flatten: also take convolution kernels and stacked expert weights with such a name, as matrices
            (first dimension, all the others).
        options: further options of the low-rank group (`scale`, `scale_type`, …).

    Raises:
        BadInputError: no parameter matches.

    Source: arXiv 2412.05270; the split follows the released training scripts.
    """
    low_rank = dict(_targets(model, target, flatten))
    if not low_rank:
        linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        raise BadInputError(
            f"no linear layer of {type(model).__name__} has a name with any of {', '.join(map(repr, target))}; "
            f"its linear layers: {', '.join(linears[:8]) or 'none'}{', …' if len(linears) > 8 else ''}"
        )
    chosen = {id(parameter) for parameter in low_rank.values()}
    dense = [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": dense, "weight_decay": dense_weight_decay},
        {
            "params": list(low_rank.items()),
            "weight_decay": weight_decay,
            "rank": rank,
            "flatten": flatten,
            **options,
        },
    ]
    for group in groups:
        if group["weight_decay"] is None:
            del group["weight_decay"]
    return [group for group in groups if group["params"]]


def _targets(model: nn.Module, target: Sequence[str], flatten: bool) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            linear = isinstance(module, nn.Linear) and name.endswith("weight")
            kernel = isinstance(module, _CONVOLUTIONS) and name.endswith("weight")
            stacked = parameter.ndim > 2
            eligible = linear or (flatten and (kernel or stacked))
            if eligible and id(parameter) not in seen and any(part in name for part in target):
                seen.add(id(parameter))
                yield name, parameter


def quarter_rank(model: nn.Module, target: Sequence[str] = ("attn", "mlp")) -> int:
    """Return the paper's rank for a model: a quarter of its width, and no more than its narrowest weight.

    The width is the largest of the weights' smaller sides: the hidden size, in a decoder.

    Raises:
        BadInputError: no parameter matches.

    Source: arXiv 2412.05270, appendix A.4.
    """
    *_, low_rank = param_groups(model, rank=1, target=target)
    smaller_sides = [min(matrix_shape(parameter)) for _, parameter in low_rank["params"]]
    return max(1, min(max(smaller_sides) // 4, *smaller_sides))
