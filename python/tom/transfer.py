"""Copies from the host to the learning device, for which the host does not wait."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`.

    A copy from ordinary memory to a GPU makes the host wait until everything queued there is done.
    From pinned memory it is queued itself. torch keeps the pinned memory until it has been read.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
