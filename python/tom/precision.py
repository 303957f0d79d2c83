"""Where the products between hidden layers may be computed in bfloat16."""

from __future__ import annotations

import torch

from tom.names import Precision
from tom.settings import ConfigError


def check_precision(precision: Precision, device: torch.device) -> None:
    """Check that the device has instructions for this precision.

    Elsewhere torch would emulate bfloat16, and be slower with it than without.

    Raises:
        ConfigError: bf16, and a processor without AVX512-BF16 or a GPU without bfloat16.
    """
    if precision == "fp32":
        return
    if device.type == "cuda":
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ConfigError(
                "precision: given 'bf16', allowed is fp32 on this GPU, which cannot multiply "
                "bfloat16"
            )
    elif not torch.cpu._is_avx512_bf16_supported():
        raise ConfigError(
            "precision: given 'bf16', allowed is fp32 on this processor, which lacks the "
            "AVX512-BF16 instructions"
        )
