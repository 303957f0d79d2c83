"""How the kernels are launched: blocks, tiles and warps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# The fastest of those tried on an H200, for one seed and for eight: rows that a program takes, and
# columns of a hidden layer that it takes at a time; the tile of a gradient, and rows at a time.
ROWS = {"BM": 16, "CHUNK": 32}
LAUNCH = {"num_warps": 4, "enable_fp_fusion": True}
ROW_LAUNCH = {**LAUNCH, "num_stages": 3}
TILES = {"TK": 64, "TN": 32, "TB": 64}
TILE_LAUNCH = {**LAUNCH, "num_stages": 2}

# Programs per multiprocessor from which on products by cuBLAS, which reads a network's weights less
# often, are faster than the ensemble's float32 ones: on an H200 four seeds are faster and eight are
# slower. In TF32 eight seeds take about as long both ways.
CROWD = 4


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


def row_programs(networks: int, batch: int) -> int:
    """Programs that take a batch of each network through its layers."""
    return networks * cdiv(batch, ROWS["BM"])


def row_launch(programs: int, device: torch.device) -> dict[str, int]:
    """For long programs: with at most one per multiprocessor, twice the warps are faster."""
    launch = dict(ROW_LAUNCH)
    if device.type == "cuda" and programs <= multiprocessors(device):
        launch["num_warps"] *= 2
    return launch


def multiprocessors(device: torch.device) -> int:
    """Of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def crowded(networks: int, batch: int, precision: str, device: torch.device) -> bool:
    """Whether an ensemble's steps are faster in torch's operations than by these kernels."""
    if device.type != "cuda" or precision != "fp32":
        return False
    return row_programs(networks, batch) > CROWD * multiprocessors(device)
