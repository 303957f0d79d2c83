"""The layout of a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tom.rows import RowLayout

LAYOUT = RowLayout(observation_size=3, action_size=2)


def _parts(*batch: int) -> dict[str, torch.Tensor]:
    return {
        "observation": torch.randn(*batch, 3),
        "action": torch.randn(*batch, 2),
        "next_observation": torch.randn(*batch, 3),
        "reward": torch.randn(batch),
        "terminated": torch.rand(batch) < 0.5,
    }


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_parts_lie_where_the_layout_says(batch: tuple[int, ...]) -> None:
    parts = _parts(*batch)
    rows = LAYOUT.join(**parts)
    assert rows.shape == (*batch, LAYOUT.width)
    for name, part in parts.items():
        assert torch.equal(rows[..., getattr(LAYOUT, name)], part.float()), name
    assert torch.equal(rows[..., LAYOUT.state_action], rows[..., :5])
    assert torch.equal(rows[..., LAYOUT.transition], rows[..., :8])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("observation", torch.zeros(5, 4), "observation: given [5, 4], allowed is a tensor [5, 3]"),
        ("action", torch.zeros(5, 1), "action: given [5, 1], allowed is a tensor [5, 2]"),
        ("reward", torch.zeros(5, 1), "reward: given [5, 1], allowed is a tensor [5]"),
        ("observation", [[1.0]], "observation: given list, allowed is a tensor [..., 3]"),
        ("terminated", [False] * 5, "terminated: given list, allowed is a tensor [5]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        LAYOUT.join(**{**_parts(5), name: value})
    assert str(error.value) == message
