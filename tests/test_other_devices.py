"""What the operators do on devices other than the CPU, as far as it can be seen without one.

There they are composed of ATen operations, which a switch makes the CPU use too; and on the `meta`
device, whose tensors hold no values, whatever would wait for a value on the host fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import tom.discriminator
import tom.dual_q
import tom.dynamics
import tom.sac
from ops_cases import ACTIVATIONS, gaussians, network
from step_cases import KINDS, LAYOUT, SEEDS, make_case, map_tensors, plain_operations
from tom.config import Config
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.model_buffer import ModelBuffer
from tom.ops import occupancy_weights, stacked_mlp, weighted_gaussian_nll
from tom.policy_batches import policy_batches
from tom.replays import Replays
from tom.sac import SAC
from tom.settings import override
from tom.streams import RandomStreams

TOLERANCE = 1e-9  # over 100 steps, of which each starts from the differences of the last


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _assert_near(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_training_steps_agree_with_the_cpus_kernels(kind: str) -> None:
    own = make_case(kind).run()
    with plain_operations():
        composed = make_case(kind).run()
    _assert_near(composed, own)
    # They are indeed two ways: the sums are not taken in one order.
    assert any(not torch.equal(a, b) for a, b in zip(composed, own, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stacked_mlp_agrees(activation: Any) -> None:
    def run() -> list[Tensor]:
        x, weights, biases = network((4, 8, 3))
        out = stacked_mlp(x, weights, biases, activation)
        return [out, *torch.autograd.grad(out.square().sum(), [x, *weights, *biases])]

    own = run()
    with plain_operations():
        _assert_near(run(), own)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_weights_and_likelihood_agree(divergence: Any) -> None:
    def run() -> list[Tensor]:
        output, lower, upper, target, delta = gaussians()
        mean, log_var = output.chunk(2, -1)
        result = weighted_gaussian_nll(
            mean, log_var, lower, upper, target, delta=delta, divergence=divergence
        )
        gradients = torch.autograd.grad(result[0].sum(), [output, lower, upper])
        return [*occupancy_weights(delta, divergence, 2.0), *result, *gradients]

    own = run()
    with plain_operations():
        _assert_near(run(), own)


def _on_meta(steps: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        arguments, named = map_tensors(lambda t: t.to("meta"), (arguments, named))
        return steps(*arguments, **named)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_training_steps_wait_for_no_value(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part, name = {
        "sac": (tom.sac, "sac_updates"),
        "dynamics": (tom.dynamics, "dynamics_steps"),
        "dual_q": (tom.dual_q, "dual_q_steps"),
        "discriminator": (tom.discriminator, "discriminator_steps"),
    }[kind]
    expected = make_case(kind, count=2).run()
    monkeypatch.setattr(part, name, _on_meta(getattr(part, name)))
    found = make_case(kind, count=2).run()
    assert found[0].is_meta
    assert [t.shape for t in found] == [t.shape for t in expected]


def test_a_value_cannot_be_read_on_meta() -> None:
    """The control of the test above."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros((), device="meta").item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device="meta")[torch.ones(3, dtype=torch.bool, device="meta")]


def test_the_switch_returns_what_was_set() -> None:
    assert torch.ops.tom_tests.use_cpu_kernels(True) is True
    with plain_operations():
        assert torch.ops.tom_tests.use_cpu_kernels(False) is False
    assert torch.ops.tom_tests.use_cpu_kernels(True) is True


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("switched", ["forward", "backward"])
def test_the_switch_between_both_ways_of_a_network_is_refused(
    activation: Any, switched: str
) -> None:
    """The two leave other numbers for the way back, which then gave a wrong gradient."""
    x, weights, biases = network((4, 8, 3))

    def out() -> Tensor:
        return stacked_mlp(x, weights, biases, activation).sum()

    if switched == "forward":
        with plain_operations():
            loss = out()
        with pytest.raises(RuntimeError, match="use_cpu_kernels was switched between"):
            torch.autograd.grad(loss, x, retain_graph=True)
        with plain_operations():
            found = torch.autograd.grad(loss, x)
    else:
        loss = out()
        with plain_operations(), pytest.raises(RuntimeError, match="use_cpu_kernels was switched"):
            torch.autograd.grad(loss, x, retain_graph=True)
        found = torch.autograd.grad(loss, x)
    _assert_near(found, torch.autograd.grad(out(), x))


def test_switches_are_kept_apart_from_what_is_offered() -> None:
    offered = {name.partition("::")[2] for name in _operators() if name.startswith("tom::")}
    assert offered == {
        "stacked_mlp", "stacked_mlp_forward", "stacked_mlp_backward", "occupancy_weights",
        "effective_sample_size", "weighted_gaussian_nll", "weighted_gaussian_nll_forward",
        "sac_updates", "dynamics_steps", "dual_q_steps", "discriminator_steps",
        "sac_updates_fused", "dynamics_steps_fused", "dual_q_steps_fused",
    }  # fmt: skip


def _operators() -> list[str]:
    return torch._C._dispatch_get_all_op_names()


META = torch.device("meta")


class MetaStreams(RandomStreams):
    """Streams of numbers without values: `torch.Generator` does not know the device."""

    def __init__(self, *seeds: int) -> None:
        super().__init__(seeds, "test", torch.device("cpu"))
        self.device = META

    def normal(self, *shape: int) -> Tensor:
        return torch.empty(len(self.generators), *shape, device=META)

    uniform = normal

    def integers(self, high: Sequence[int], *shape: int) -> Tensor:
        return torch.empty(len(self.generators), *shape, dtype=torch.int64, device=META)


@pytest.fixture
def replays() -> Replays:
    made = Replays(LAYOUT, 60, SEEDS, META)
    for _ in range(70):
        made.append(torch.randn(len(SEEDS), LAYOUT.width, dtype=torch.float32))
    return made


CONFIG = override(
    Config(),
    {
        "updates_per_step": 3,
        "reward_transform": "log",
        **{f"{part}.hidden": (8, 8) for part in ("sac", "dynamics", "dual_q", "discriminator")},
        "dynamics.members": 2,
        "dynamics.batches_per_epoch": 3,
        "dual_q.steps": 60,
        "dual_q.policy_samples": 2,
        "discriminator.steps": 3,
        "discriminator.current_rows": 30,
    },
)
SINGLE = pytest.mark.usefixtures("_single")


@pytest.fixture
def _single() -> None:
    torch.set_default_dtype(torch.float32)


def _policy(states: Tensor) -> Tensor:
    return states[..., :2]


@SINGLE
def test_an_environment_steps_updates_wait_for_no_value(replays: Replays) -> None:
    """From the rows' arrival to the last update: buffers, minibatches, noise and networks."""
    model = ModelBuffer(50, LAYOUT.width, MetaStreams(*SEEDS))
    model.extend([torch.zeros(40, LAYOUT.width, device=META)] * len(SEEDS))
    bounds = torch.ones(2)
    policy = SAC(LAYOUT, -bounds, bounds, CONFIG.sac, 0.99, MetaStreams(*SEEDS))
    for _ in range(2):
        replays.append(torch.randn(len(SEEDS), LAYOUT.width))
        batches = policy_batches(replays, model, CONFIG, torch.zeros(len(SEEDS)))
        metrics = policy.update(batches)
    assert all(value.is_meta for value in metrics.values())


@SINGLE
def test_the_weights_networks_are_fitted_without_waiting(replays: Replays) -> None:
    size = LAYOUT.transition.stop
    discriminator = Discriminator(size, CONFIG.discriminator, MetaStreams(*SEEDS))
    metrics = discriminator.fit(replays)
    rewards = discriminator.reward(replays.rows()[..., LAYOUT.transition])
    dual_q = DualQ(LAYOUT, DIVERGENCES["chi2"], CONFIG.dual_q, 0.99, MetaStreams(*SEEDS))

    def starts(n: int) -> Tensor:
        return torch.zeros(len(SEEDS), n, LAYOUT.observation_size, device=META)

    metrics |= dual_q.fit(replays, rewards, starts, _policy)
    assert dual_q.residuals(replays.rows(), rewards, starts, _policy)[0].is_meta
    assert all(value.is_meta for value in metrics.values())


@SINGLE
def test_an_epoch_of_the_dynamics_does_not_wait(replays: Replays) -> None:
    ensemble = DynamicsEnsemble(LAYOUT, CONFIG.dynamics, "sample", MetaStreams(*SEEDS))
    ensemble._standardise(replays)
    weights = torch.ones(len(SEEDS), len(replays), device=META)
    assert ensemble._train_epoch(*ensemble._minibatches(replays, weights)).is_meta
