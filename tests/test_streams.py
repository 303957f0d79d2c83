"""Random streams: independent per seed and purpose, restorable."""

from __future__ import annotations

import torch

from helpers import streams


def test_a_seed_draws_the_same_alone_and_beside_others() -> None:
    alone, together = streams(3), streams(1, 3, 7)
    torch.testing.assert_close(alone.normal(5)[0], together.normal(5)[1], rtol=0, atol=0)
    torch.testing.assert_close(alone.uniform(2, 3)[0], together.uniform(2, 3)[1], rtol=0, atol=0)
    assert torch.equal(alone.integers([9], 4)[0], together.integers([2, 9, 5], 4)[1])


def test_purposes_and_seeds_differ() -> None:
    numbers = [streams(s, purpose=p).normal(4) for s in (0, 1) for p in ("a", "b")]
    assert len({tuple(n.flatten().tolist()) for n in numbers}) == 4


def test_continues_where_it_was_saved() -> None:
    first = streams(0, 1)
    first.normal(3)
    saved = first.state_dict()
    expected = first.normal(8)
    second = streams(5, 6)
    second.load_state_dict(saved)
    assert torch.equal(second.normal(8), expected)
