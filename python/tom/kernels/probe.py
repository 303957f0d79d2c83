"""The smallest kernel: whether Triton can compile and launch anything here."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def probe_kernel(out):
    """Writes a number."""
    tl.store(out, 1.0)


def probe(device: torch.device) -> None:
    """Launch it; whatever Triton lacks is raised."""
    with torch.cuda.device(device):
        probe_kernel[(1,)](torch.empty(1, device=device))
