"""The native training steps take the steps that autograd takes.

In float64, where rounding cannot hide a wrong gradient, both paths agree over 100 steps, for
several numbers of threads and seeds, and for settings that reach each branch.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from helpers import streams
from ops_cases import number_of_threads
from step_cases import KINDS, make_case
from tom import native_steps
from tom.config import DiscriminatorConfig, DualQConfig, DynamicsConfig, SACConfig
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.networks import Adam
from tom.rows import RowLayout
from tom.sac import SAC

LAYOUT, SEEDS, BATCH = RowLayout(5, 2), (0, 1, 2), 20
TOLERANCE = 1e-9  # over all steps, of which each starts from the differences of the last
STEPS = {1: 100, 2: 10, 3: 10}  # by number of threads


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def rows(*shape: int) -> Tensor:
    made = torch.randn(*shape, LAYOUT.width)
    made[..., LAYOUT.terminated] = (torch.rand(shape) < 0.2).double()
    return made


def assert_near(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def sac(log_std_bias: float = 0.0) -> SAC:
    config = SACConfig(hidden=(16, 12), learning_rate=3e-3, tau=0.05)
    low, high = torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 5.0])
    made = SAC(LAYOUT, low, high, config, 0.99, streams(*SEEDS))
    with torch.no_grad():
        made.actor.biases[-1][..., 2:] += log_std_bias
    return made


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("log_std_bias", [0.0, 2.0])  # the second holds some at the upper bound
def test_sac(threads: int, log_std_bias: float) -> None:
    native, plain = sac(log_std_bias), sac(log_std_bias)
    batches = rows(STEPS[threads], len(SEEDS), BATCH)
    noise = torch.randn(STEPS[threads], len(SEEDS), 2 * BATCH, 2)
    with number_of_threads(threads):
        metrics = native._native_updates(batches, noise)
        for batch, drawn in zip(batches, noise, strict=True):
            expected = plain._update(batch, drawn)
    assert_near(metrics, torch.stack(list(expected)))
    for name, stack in native._parts().items():
        for key, value in stack.state_dict().items():
            assert_near(value, plain._parts()[name].state_dict()[key])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_dynamics(threads: int) -> None:
    config = DynamicsConfig(members=3, hidden=(16, 12, 16), learning_rate=3e-3, weight_decay=0.1)
    native, plain = (DynamicsEnsemble(LAYOUT, config, "loss", streams(*SEEDS)) for _ in range(2))
    shape = (STEPS[threads], len(SEEDS), 3, BATCH)
    x, y, w = torch.randn(*shape, 7), torch.randn(*shape, 6), torch.rand(*shape)
    with number_of_threads(threads):
        loss = native._native_steps(x, y, w)
        expected = torch.stack([plain._step(*batch) for batch in zip(x, y, w, strict=True)])
    assert_near(loss, expected.mean(0))
    assert_near(native.network.flat, plain.network.flat)


@pytest.mark.parametrize(
    ("divergence", "conjugate", "samples", "end", "threads"),
    [
        ("chi2", "exact", 1, "cut", 1),
        ("chi2", "exact", 3, "restart", 2),
        ("chi2", "quadratic", 1, "restart", 3),
        ("chi2_bound", "exact", 2, "cut", 1),
        ("kl", "exact", 2, "restart", 1),
    ],
)
def test_dual_q(divergence: str, conjugate: str, samples: int, end: str, threads: int) -> None:
    config = DualQConfig(
        hidden=(16, 12),
        learning_rate=3e-3,
        policy_samples=samples,
        conjugate=conjugate,  # type: ignore[arg-type]
        after_termination=end,  # type: ignore[arg-type]
        l2=0.01,
    )
    native, plain = (
        DualQ(LAYOUT, DIVERGENCES[divergence], config, 0.9, streams(*SEEDS)) for _ in range(2)
    )
    shape = (STEPS[threads], len(SEEDS))
    inputs = torch.randn(*shape, BATCH * (1 + 2 * samples), 7)
    # Rewards below −1 put δ below the threshold of the exact conjugate.
    rewards, go_on = torch.randn(*shape, BATCH) - 0.5, (torch.rand(*shape, BATCH) < 0.8).double()
    with number_of_threads(threads):
        losses = native._native_steps(inputs, rewards, go_on)
        expected = [plain._step(*batch) for batch in zip(inputs, rewards, go_on, strict=True)]
    assert_near(losses, torch.cat(expected))
    assert_near(native.network.flat, plain.network.flat)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("hidden", [(16,), (16, 12), (12, 8, 16)])
@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_discriminator(threads: int, hidden: tuple[int, ...], penalty: float) -> None:
    config = DiscriminatorConfig(hidden=hidden, gradient_penalty=penalty, learning_rate=3e-3)
    native, plain = (Discriminator(12, config, streams(*SEEDS)) for _ in range(2))
    shape = (STEPS[threads], len(SEEDS), BATCH)
    batches = torch.randn(*shape, 12), torch.randn(*shape, 12) + 1, torch.rand(*shape, 1)
    with number_of_threads(threads):
        logits, expected = native._native_steps(*batches), plain._steps(*batches)
    assert_near(logits, expected)
    assert_near(native.network.flat, plain.network.flat)


def test_a_wrong_gradient_would_be_noticed() -> None:
    """The control: a target that follows 1 % faster is told apart."""
    native, plain = sac(), sac()
    batches, noise = rows(100, len(SEEDS), BATCH), torch.randn(100, len(SEEDS), 2 * BATCH, 2)
    object.__setattr__(plain.config, "tau", 1.01 * plain.config.tau)
    native._native_updates(batches, noise)
    plain._native_updates(batches, noise)
    assert (native.actor.flat - plain.actor.flat).abs().max() > 1e3 * TOLERANCE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": torch.zeros(1, 3, BATCH, 13)}, "width of a row"),
        ({"batches": torch.tensor(1.0)}, r"rows has shape \[\]; it must be \[G, S, B"),
        ({"noise": torch.zeros(1, 3, BATCH, 2)}, "noise has shape"),
        ({"target": torch.zeros(3, dtype=torch.float64)}, "target has shape"),
        (
            {"scale": torch.zeros(2, dtype=torch.float32)},
            "scale is Float on cpu; it must be Double",
        ),
        (
            {"scale": torch.tensor(1.0)},
            r"scale has shape \[\] and center \[2\]; both must be \[A\]",
        ),
        ({"center": torch.ones(1)}, r"scale has shape \[2\] and center \[1\]; both must be \[A\]"),
        ({"hidden": (1000, 1000)}, "contiguous vectors of 3033012 numbers"),
        ({"hidden": (8, 12)}, r"actor has a Double tensor of shape \[1056\].* of \d{3} numbers"),
        ({"temperature": [*[torch.zeros(4).double()] * 4, torch.tensor(0.0)]}, "of 3 numbers"),
        ({"temperature": [*[torch.zeros(0).double()] * 4, torch.tensor(0.0)]}, "of 3 numbers"),
        ({"scale": torch.ones(0), "center": torch.ones(0)}, r"both must be \[A\] with A >= 1"),
        (
            {"batches": torch.zeros(1, 3, BATCH, 14).double().requires_grad_()},
            "rows requires gradients",
        ),
        (
            {"noise": torch.zeros(1, 3, 2 * BATCH, 2).double().requires_grad_()},
            "noise requires gradients",
        ),
        ({"target": torch.zeros(1104).double().requires_grad_()}, "target requires gradients"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_and_change_nothing(
    change: dict[str, Tensor | tuple[int, ...]], message: str
) -> None:
    made = sac()
    arguments = {
        "batches": rows(1, len(SEEDS), BATCH),
        "noise": torch.zeros(1, len(SEEDS), 2 * BATCH, 2),
        "actor": made._actor_adam.trained,
        "critic": made._critic_adam.trained,
        "temperature": made._temperature_adam.trained,
        "target": made.target.flat,
        "scale": torch.ones(2),
        "center": torch.zeros(2),
        "hidden": (16, 12),
        "discount": 0.99,
        "tau": 0.005,
        "target_entropy": -1.0,
        "learning_rate": 1e-3,
        "log_std_bounds": (-20.0, 2.0),
    }
    before = made.actor.flat.clone()
    with pytest.raises(ValueError, match=message):
        native_steps.sac_updates(**{**arguments, **change})  # type: ignore[arg-type]
    assert torch.equal(made.actor.flat, before)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_another_type_are_refused_and_change_nothing(kind: str) -> None:
    inputs = len(make_case(kind, count=1).inputs)
    for i in range(inputs):
        case = make_case(kind, count=1)
        before = [tensor.clone() for tensor in case.state]
        # NumPy's own type, which rewards often have.
        given = [x.float() if i == n else x for n, x in enumerate(case.inputs)]
        with pytest.raises(
            ValueError, match=r"_(steps|updates): \w+ is Float on cpu; it must be Do"
        ):
            case.steps(*given)
        assert all(a.equal(b) for a, b in zip(case.state, before, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_no_tensors_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(kind, count=1)
    monkeypatch.setattr(Adam, "trained", [])
    with pytest.raises(ValueError, match=r"must be \[flat, gradient, exp_avg, exp_avg_sq, step\]"):
        case.steps(*case.inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_requires_gradients_is_refused(kind: str) -> None:
    case = make_case(kind, count=2)
    before = [tensor.clone() for tensor in case.state]
    case.state[0].requires_grad_()
    with pytest.raises(ValueError, match="requires gradients; pass it detached"):
        case.run()
    assert all(a.equal(b) for a, b in zip(case.state, before, strict=True))
    with torch.no_grad():
        case.run()


def test_an_ensemble_that_predicts_nothing_is_refused() -> None:
    case = make_case("dynamics", count=1)
    inputs, targets, weights = case.inputs
    with pytest.raises(ValueError, match="with D >= 1"):
        case.steps(inputs, targets[..., :0], weights)


@pytest.mark.parametrize("kind", KINDS)
def test_autograd_knows_what_the_steps_have_changed(kind: str) -> None:
    case = make_case(kind, count=1)
    before = [tensor._version for tensor in case.state]
    case.run()
    after = [tensor._version for tensor in case.state]
    assert all(a > b for a, b in zip(after, before, strict=True))
