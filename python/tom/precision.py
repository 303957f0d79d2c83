"""In what the products of the networks may be computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tom.names import Precision
from tom.settings import ConfigError


def check_precision(precision: Precision, device: torch.device) -> None:
    """Check that the device has instructions for this precision.

    Elsewhere torch would emulate bfloat16, and be slower with it than without.

    Raises:
        ConfigError: bf16, and a processor without AVX512-BF16 or a GPU without bfloat16; tf32, and
            a processor or a GPU without TF32.
    """
    if precision == "fp32":
        return
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) < (8, 0):  # both came with Ampere
            kind = {"bf16": "bfloat16", "tf32": "TF32"}[precision]
            raise ConfigError(
                f"precision: given {precision!r}, allowed is fp32 on this GPU, which cannot "
                f"multiply {kind}"
            )
    elif precision == "tf32":
        raise ConfigError(
            "precision: given 'tf32', allowed are fp32 and bf16 on a processor; TF32 is a GPU's"
        )
    elif not torch.cpu._is_avx512_bf16_supported():
        raise ConfigError(
            "precision: given 'bf16', allowed is fp32 on this processor, which lacks the "
            "AVX512-BF16 instructions"
        )


@contextmanager
def using_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within it torch's own products on a GPU are as `use_precision` says; then as before."""
    before = torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None
    use_precision(precision, device)
    try:
        yield
    finally:
        if before is not None:
            torch.backends.cuda.matmul.allow_tf32 = before


def use_precision(precision: Precision, device: torch.device) -> None:
    """Check it, and tell torch whether its own products on a GPU may be TF32's: for the process.

    Raises:
        ConfigError: as `check_precision`.
    """
    check_precision(precision, device)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
