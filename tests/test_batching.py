"""Working on many rows a piece at a time."""

from __future__ import annotations

import pytest
import torch

from tom.batching import CHUNK, in_chunks


@pytest.mark.parametrize("rows", [1, CHUNK, 2 * CHUNK + 5])
def test_pieces_make_up_the_whole(rows: int) -> None:
    x, y = torch.randn(2, rows, 3), torch.randn(2, rows, 1)
    sizes = []

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sizes.append(a.shape[1])
        return a * b

    assert torch.equal(in_chunks(product, x, y), x * y)
    assert max(sizes) <= CHUNK and sum(sizes) == rows
