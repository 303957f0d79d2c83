"""What `tom.dataset_weights` refuses, in one sentence and before it trains anything.

That its weights are right is in `test_progression.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tom
from tom.initial_states import CAPACITY

LAYOUT = tom.RowLayout(observation_size=2, action_size=1)
DATASET = tom.Dataset(torch.randn(20, LAYOUT.width), torch.randn(5, 2))
CURRENT = torch.randn(8, LAYOUT.width)


def policy(observations: Tensor) -> Tensor:
    return observations[..., :1]


def error_of(
    error: type[Exception],
    dataset: tom.Dataset = DATASET,
    current: Tensor = CURRENT,
    acting: Callable[[Tensor], Tensor] = policy,
    **settings: object,
) -> str:
    """What it says."""
    config = replace(tom.Config(), **settings)  # type: ignore[arg-type]
    with pytest.raises(error) as caught:
        tom.dataset_weights(dataset, LAYOUT, acting, current, config)
    message = str(caught.value)
    assert "given" in message and "allowed" in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"discount": 2.0}, "discount: given 2.0"),
        ({"discount": 1.0}, "discount: given 1"),
        ({"discount": 1.0, "algorithm": "mbpo"}, "discount: given 1"),
        ({"divergence": "js"}, "divergence: given 'js'"),
        (
            {"divergence": "kl", "dual_q": tom.Config().dual_q.__class__(after_termination="cut")},
            "dual_q.after_termination: given 'cut'",
        ),
        ({"device": "tpu"}, "device: given 'tpu'"),
    ],
)
def test_settings_that_the_command_line_refuses(settings: dict[str, object], start: str) -> None:
    assert error_of(tom.ConfigError, **settings).startswith(start)


@pytest.mark.parametrize(
    ("bad", "given"),
    [
        (torch.randn(0, LAYOUT.width), "float32 [0, 7]"),
        (torch.randn(4, LAYOUT.width - 1), "float32 [4, 6]"),
        (torch.randn(LAYOUT.width), "float32 [7]"),
        (torch.randn(4, LAYOUT.width).double(), "float64 [4, 7]"),
        (torch.randn(4, LAYOUT.width).numpy(), "a ndarray"),
        (torch.randn(4, LAYOUT.width).index_fill(0, torch.tensor([2]), torch.nan), "in row 2"),
    ],
)
def test_rows_that_do_not_fit(bad: Tensor, given: str) -> None:
    initial = bad[..., : LAYOUT.observation_size]
    cases = {
        "dataset.rows": error_of(ValueError, tom.Dataset(bad, DATASET.initial_states)),
        "current": error_of(ValueError, current=bad),
        "dataset.initial_states": error_of(ValueError, tom.Dataset(DATASET.rows, initial[..., :1])),
    }
    for name, message in cases.items():
        assert message.startswith(f"{name}: given")
    assert given in cases["dataset.rows"] and given in cases["current"]


def test_a_policy_that_does_not_act() -> None:
    message = error_of(ValueError, acting=lambda states: states)
    assert "given actions [1, 5, 2] for observations [1, 5, 2]" in message
    assert "given actions ndarray" in error_of(ValueError, acting=lambda states: states.numpy())
    assert "not finite" in error_of(ValueError, acting=lambda states: states[..., :1] * torch.nan)


def test_settings_that_the_weights_do_not_read_need_not_fit() -> None:
    settings = replace(tom.Config(), steps=10, algorithm="mbpo")
    small = replace(
        settings,
        discriminator=replace(settings.discriminator, hidden=(4,), steps=1),
        dual_q=replace(settings.dual_q, hidden=(4,), steps=1),
    )
    small = replace(small, replay=replace(settings.replay, capacity=5))
    given = tom.Dataset(DATASET.rows.clone().requires_grad_(), DATASET.initial_states)
    double = torch.nn.Linear(2, 1).double()
    for acting in (policy, lambda states: double(states.double())):  # with gradients of its own
        weights, _ = tom.dataset_weights(
            given, LAYOUT, acting, CURRENT.clone().requires_grad_(), small
        )
        assert weights.shape == (20,) and not weights.requires_grad


def test_every_initial_state_counts() -> None:
    """Also those beyond what a training run remembers: the sample's mean is that of all."""
    settings = tom.Config()
    small = replace(
        settings,
        discriminator=replace(settings.discriminator, hidden=(4,), steps=1, batch_size=8),
        dual_q=replace(settings.dual_q, hidden=(4,), steps=1, batch_size=CAPACITY),
    )
    states = torch.cat([torch.ones(CAPACITY, 2), torch.zeros(CAPACITY, 2)])
    seen: list[Tensor] = []

    def watching(observations: Tensor) -> Tensor:
        seen.append(observations)
        return policy(observations)

    tom.dataset_weights(tom.Dataset(DATASET.rows, states), LAYOUT, watching, CURRENT, small)
    of_start = seen[1][:, CAPACITY:]  # the first training step's: s' of the rows, then s0
    assert of_start.shape == (1, CAPACITY, 2)
    # A standard deviation of 0.005; the newest 10 000 alone would have a mean of 0.
    assert abs(of_start.mean().item() - 0.5) < 0.03
