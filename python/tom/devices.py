"""Where networks can be computed."""

from __future__ import annotations

import re

import torch

from tom.settings import ConfigError


def check_device(device: str) -> None:
    """Check that torch can use `device` here.

    Raises:
        ConfigError: another name than cpu, cuda or cuda:N, or a GPU that torch does not find.
    """
    if device == "cpu":
        return
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise ConfigError(f"device: given {device!r}, allowed are cpu, cuda and cuda:N")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device: given {device!r}, allowed is cpu on this machine, where torch finds no CUDA"
        )
    count = torch.cuda.device_count()
    if int(match[1] or 0) >= count:
        last = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"device: given {device!r}, allowed are cpu, cuda and {last}")
