"""ξ* of a fixed dataset for one policy: the weights of (23) without a training run around them."""

from __future__ import annotations

import torch
from torch import Tensor

from tom.config import Config
from tom.datasets import Dataset
from tom.devices import check_device
from tom.dual_q import Policy
from tom.initial_states import InitialStates
from tom.precision import check_precision, using_precision
from tom.replays import Replays
from tom.rows import RowLayout
from tom.settings import check_values, override
from tom.streams import RandomStreams
from tom.weighting import OccupancyWeighting

PROBES = 8
"""States in which the policy is asked beforehand."""


def dataset_weights(
    dataset: Dataset, layout: RowLayout, policy: Policy, current: Tensor, config: Config
) -> tuple[Tensor, dict[str, float]]:
    """Discriminator, dual Q, then f*'(δ) for every row.

    Args:
        dataset: N rows and first states of episodes.
        layout: the rows' layout.
        policy: the policy of interest; it draws actions [1, B, A] for observations [1, B, O]. It is
            asked in a few states beforehand, to see that it does.
        current: transitions of its own [n, W].
        config: its `discriminator`, `dual_q`, `weights.max_weight`, `divergence`, `discount`,
            `seed`, `device`, `cuda_graphs`, `fused_kernels` and `precision`. The numbers of steps
            are by default those of one iteration among many; for data that are weighed once
            tom.offline takes ten times as many, and `dual_q.policy_samples` 4.

    Returns:
        Weights [N] on the CPU, and the metrics of the two trainings. `tom/flow_balance` is 1 where
        the dual Q has converged, and `tom/clip_fraction` the share of rows whose weight was cut to
        `weights.max_weight`: few steps, or data that the policy leaves, show there.

    Raises:
        ConfigError: a setting that cannot be used.
        ValueError: rows, initial states or actions that do not fit the layout, or numbers among
            them that are not finite.
        TrainingError: discriminator or dual Q has diverged.
    """
    _check_config(config)
    device, seeds = torch.device(config.device), [config.seed]
    _check_rows("dataset.rows", dataset.rows, layout.width)
    _check_rows("dataset.initial_states", dataset.initial_states, layout.observation_size)
    _check_rows("current", current, layout.width)
    _check_policy(policy, dataset.initial_states[:PROBES].detach().unsqueeze(0).to(device), layout)
    replays = Replays(layout, len(dataset.rows), seeds, device)
    replays.buffers[0].append(dataset.rows.detach().cpu().contiguous())
    streams = RandomStreams(seeds, "dataset_initial_states", device)
    count = len(dataset.initial_states)
    initial_states = InitialStates(layout.observation_size, streams, capacity=count)
    for state in dataset.initial_states.detach():
        initial_states.append(0, state)
    weighting = OccupancyWeighting(layout, config, seeds, device)
    own = current.detach().unsqueeze(0).to(device)

    def act(observations: Tensor) -> Tensor:
        return policy(observations).detach().to(observations)

    with using_precision(config.precision, device):
        weights, metrics = weighting.update(replays, initial_states.sample, act, own)
    return weights[0].cpu(), {name: value.item() for name, value in metrics.items()}


def _check_config(config: Config) -> None:
    """Check what the weights depend on, as the command line would."""
    check_values(config)
    # The buffers hold what is given, whatever their configured size.
    size = max(config.replay.capacity, config.discriminator.current_rows)
    override(config, {"replay.capacity": size}).check_weights()
    check_device(config.device)
    check_precision(config.precision, torch.device(config.device))


def _check_rows(name: str, rows: Tensor, width: int) -> None:
    """Check for a float32 matrix [n, width] of finite numbers, n ≥ 1."""
    allowed = f"allowed is float32 [n, {width}] with n of at least 1"
    if not isinstance(rows, Tensor):
        raise ValueError(f"{name}: given a {type(rows).__name__}, {allowed}")
    if rows.dtype != torch.float32 or rows.dim() != 2 or rows.shape[1] != width or not len(rows):
        kind = str(rows.dtype).removeprefix("torch.")
        raise ValueError(f"{name}: given {kind} {list(rows.shape)}, {allowed}")
    finite = rows.isfinite().all(1)
    if not finite.all():
        raise ValueError(
            f"{name}: given numbers in row {int(finite.long().argmin())} that are not finite, "
            f"allowed are finite ones"
        )


def _check_policy(policy: Policy, observations: Tensor, layout: RowLayout) -> None:
    """Ask the policy once for the actions [1, B, A] in `observations` [1, B, O]."""
    actions = policy(observations)
    shape = (*observations.shape[:2], layout.action_size)
    if not isinstance(actions, Tensor) or actions.shape != shape:
        given = list(actions.shape) if isinstance(actions, Tensor) else type(actions).__name__
        raise ValueError(
            f"policy: given actions {given} for observations {list(observations.shape)}, allowed "
            f"is a tensor {list(shape)}"
        )
    if not actions.isfinite().all():
        raise ValueError("policy: given actions that are not finite, allowed are finite ones")
