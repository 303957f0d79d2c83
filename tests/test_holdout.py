"""The held-out rows: as many as asked for, spread evenly, and never drawn before."""

from __future__ import annotations

import pytest
import torch

from tom.holdout import held_out_slots


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5])
def test_any_stretch_of_rows_has_its_share(share: float) -> None:
    held = held_out_slots(torch.arange(20_000), share, 20_000)
    for stretch in held.bincount(minlength=20_000).split(1000):
        assert abs(int(stretch.sum()) - 1000 * share) <= 3


@pytest.mark.parametrize("capacity", [1, 2, 3, 50, 1000])
def test_no_row_is_held_out_after_it_was_trained_on(capacity: int) -> None:
    """Also while the limit on their number lowers the share, and after the buffer is full."""
    trained: set[int] = set()
    for total in range(1, 3000, 7):
        numbers = torch.arange(max(0, total - capacity), total)
        held = numbers[held_out_slots(numbers, 0.2, 30)].tolist()
        assert 1 <= len(held) <= 35
        if capacity >= 50:  # in the tiniest a row must be taken back, as there is no other
            assert not trained & set(held)
        trained |= set(numbers.tolist()) - set(held)
