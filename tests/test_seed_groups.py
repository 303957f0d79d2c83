"""Seeds that take their steps in groups take the steps that they would take all at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from ops_cases import number_of_threads
from step_cases import KINDS, make_case
from tom.config import DynamicsConfig
from tom.dynamics import DynamicsEnsemble
from tom.rows import RowLayout
from tom.streams import RandomStreams

ONE_SEED, ALL_SEEDS = 1, 1 << 40  # bytes that a group may take, with all threads
DEFAULT = 0  # each thread takes seeds of its own, if these are small and enough for all threads


@contextmanager
def groups_of(size: int) -> Iterator[None]:
    before = torch.ops.tom_tests.set_seed_group_bytes(size)
    try:
        yield
    finally:
        torch.ops.tom_tests.set_seed_group_bytes(before)


def after_steps(kind: str, size: int) -> tuple[list[Tensor], list[Tensor]]:
    """What the steps return and leave, and apart from these the gradients."""
    case = make_case(kind, count=10)
    with groups_of(size):
        results = case.run()
    returned = len(results) - len(case.state)
    # Each network has its parameters, the gradient, two moments and a counter; a target is alone.
    gradients = case.state[1::5]
    kept = [t for t in case.state if not any(t is gradient for gradient in gradients)]
    return [*results[:returned], *kept], gradients


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_take_the_same_steps(kind, threads):
    with number_of_threads(threads):
        expected, together = after_steps(kind, ALL_SEEDS)
        actual, apart = after_steps(kind, ONE_SEED)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    # Groups compute their gradients in memory of their own: so these steps were taken in groups.
    assert any(gradient.any() for gradient in together)
    assert not any(gradient.any() for gradient in apart)


@pytest.mark.parametrize("threads", [2, 3, 4])  # for three seeds
@pytest.mark.parametrize("kind", KINDS)
def test_seeds_with_a_thread_each_take_the_same_steps(kind, threads):
    expected, _ = after_steps(kind, ALL_SEEDS)
    with number_of_threads(threads):
        actual, gradients = after_steps(kind, DEFAULT)
        again, _ = after_steps(kind, DEFAULT)
    for one, other, repeated in zip(actual, expected, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert torch.equal(one, repeated)
    # Four threads find too few seeds, and share one group of all.
    assert any(gradient.any() for gradient in gradients) == (threads == 4)


def test_seeds_that_do_not_fit_the_cache_take_the_same_steps():
    """Two ensembles of the default size, which are not trained side by side."""

    def after(size: int) -> list[Tensor]:
        torch.manual_seed(0)
        streams = RandomStreams((0, 1), "test", torch.device("cpu"))
        ensemble = DynamicsEnsemble(RowLayout(11, 3), DynamicsConfig(), "sample", streams)
        shape = (2, 2, 7, 256)
        with groups_of(size):
            loss = ensemble._native_steps(
                torch.randn(*shape, 14), torch.randn(*shape, 12), torch.rand(shape)
            )
        flat, gradient, exp_avg, exp_avg_sq, step = ensemble.optimizer.trained
        assert bool(gradient.any()) == (size == ALL_SEEDS)  # groups have gradients of their own
        return [loss, flat, exp_avg, exp_avg_sq, step]

    with number_of_threads(2):
        for one, other in zip(after(DEFAULT), after(ALL_SEEDS), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_groups_of_unequal_size():
    expected, _ = after_steps("dual_q", ALL_SEEDS)
    parameters = make_case("dual_q").state[0]
    for share in (0.5, 0.7, 0.9):  # of three seeds, 4 vectors each and activations
        actual, _ = after_steps("dual_q", int(share * (16 * parameters.numel() + 4 * 3 * 140 * 28)))
        for one, other in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_refused_arguments_change_nothing_in_groups_either(kind):
    case = make_case(kind, count=2)
    before = [t.clone() for t in case.state]
    with groups_of(ONE_SEED), pytest.raises((ValueError, RuntimeError)):
        case.steps(*(x[..., :-1] for x in case.inputs))
    for one, other in zip(case.state, before, strict=True):
        assert torch.equal(one, other)
