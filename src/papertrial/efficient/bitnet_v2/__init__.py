"""BitNet v2: ternary weights, INT4 activations, a Hadamard rotation where they spike. Source: arXiv 2504.18415."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.bitnet_v2.attention import AttentionBits, use_low_bit_attention
    from papertrial.efficient.bitnet_v2.cache import LowBitCache
    from papertrial.efficient.bitnet_v2.checkpoints import load_packed, save_packed
    from papertrial.efficient.bitnet_v2.convert import BitNetOptions, set_activation_bits, use_bitnet
    from papertrial.efficient.bitnet_v2.costs import ternary_costs
    from papertrial.efficient.bitnet_v2.linear import BitLinear, HBitLinear, keep_ternary_weights
    from papertrial.efficient.bitnet_v2.packed import PackedBitLinear, use_packed
    from papertrial.efficient.bitnet_v2.post_training import learn_rotations, use_rotations
    from papertrial.efficient.bitnet_v2.sites import site_statistics
    from papertrial.efficient.bitnet_v2.two_stages import TwoStages, train_two_stages

__all__ = [
    "AttentionBits",
    "BitLinear",
    "BitNetOptions",
    "HBitLinear",
    "LowBitCache",
    "PackedBitLinear",
    "TwoStages",
    "keep_ternary_weights",
    "learn_rotations",
    "load_packed",
    "save_packed",
    "set_activation_bits",
    "site_statistics",
    "ternary_costs",
    "train_two_stages",
    "use_bitnet",
    "use_low_bit_attention",
    "use_packed",
    "use_rotations",
]

_MODULE_OF = {
    "AttentionBits": "attention",
    "BitLinear": "linear",
    "BitNetOptions": "convert",
    "HBitLinear": "linear",
    "LowBitCache": "cache",
    "PackedBitLinear": "packed",
    "TwoStages": "two_stages",
    "keep_ternary_weights": "linear",
    "learn_rotations": "post_training",
    "load_packed": "checkpoints",
    "save_packed": "checkpoints",
    "set_activation_bits": "convert",
    "site_statistics": "sites",
    "ternary_costs": "costs",
    "train_two_stages": "two_stages",
    "use_bitnet": "convert",
    "use_low_bit_attention": "attention",
    "use_packed": "packed",
    "use_rotations": "post_training",
}

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
