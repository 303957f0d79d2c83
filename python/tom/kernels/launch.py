"""How the kernels are launched: blocks, tiles and warps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# The fastest of those tried on an H100 and an H200. A program takes BM rows, and CHUNK columns of a
# hidden layer at a time; or a tile TK by TN of a gradient, and TB rows at a time.
LAUNCH = {"num_warps": 4, "enable_fp_fusion": True}
ROWS = {"BM": 16, "CHUNK": 32, **LAUNCH, "num_stages": 3}
MANY_ROWS = {"BM": 32, "CHUNK": 16, **LAUNCH, "num_stages": 4}
TILES = {"TK": 64, "TN": 32, "TB": 64, **LAUNCH, "num_stages": 2}
ENSEMBLE_TILES = {**TILES, "TB": 32, "num_stages": 3}


def power(n: int) -> int:
    """The power of two that holds n, at least 16: what the axes of a product are made of."""
    return max(16, 1 << (n - 1).bit_length())


def cdiv(n: int, size: int) -> int:
    """How many of this size hold n."""
    return -(-n // size)


def products_in(precision: str) -> dict[str, str]:
    """A product of float32 factors by one TF32 product, or by three, which is as exact."""
    return {"PRECISION": "tf32" if precision == "tf32" else "tf32x3"}


def hidden_tiles(rows: int, columns: int) -> int:
    """Tiles of the gradient of a layer between hidden ones."""
    return cdiv(rows, TILES["TK"]) * cdiv(columns, TILES["TN"])


def outer_tiles(inputs: int, first: int, last: int, outputs: int) -> int:
    """Those of the first layer, of which a tile has 16 inputs, and of the last, with 16 outputs."""
    return cdiv(inputs, 16) * cdiv(first, TILES["TN"]) + cdiv(last, TILES["TK"]) * cdiv(outputs, 16)


def train_programs(inputs: int, hidden: Sequence[int], outputs: int) -> int:
    """Programs per network that `train_kernel` of `tom.kernels.layers` takes."""
    first, last = hidden
    return hidden_tiles(first, last) + outer_tiles(inputs, first, last, outputs)


def ensemble_rows(networks: int, batch: int, device: torch.device) -> dict[str, int]:
    """How programs take a batch of each network through an ensemble's layers.

    Where they are more than the multiprocessors, these wait for the weights, which larger blocks of
    rows read less often. Where each has a multiprocessor to itself, twice the warps are faster.
    """
    if device.type != "cuda":
        return ROWS
    if networks * cdiv(batch, ROWS["BM"]) > multiprocessors(device):
        return MANY_ROWS
    return {**ROWS, "num_warps": 2 * LAUNCH["num_warps"]}


def multiprocessors(device: torch.device) -> int:
    """Of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count
