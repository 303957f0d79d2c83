"""The dynamics model: an ensemble of Gaussian networks for (s, a) → (s' − s, r).

Weighted maximum likelihood (25): minimise −E_D[ξ* log T̂(s' | s, a)], either on minibatches drawn in
proportion to the weights or with the weights in the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tom import kernels
from tom.batching import in_chunks, take
from tom.config import DynamicsConfig
from tom.graphs import StepGraphs
from tom.holdout import held_out_slots
from tom.names import Precision
from tom.native_steps import dynamics_steps
from tom.networks import Adam, StackedMLP
from tom.ops import stacked_mlp, weighted_gaussian_nll
from tom.replays import Replays
from tom.rows import RowLayout
from tom.state import State
from tom.streams import RandomStreams
from tom.training_error import TrainingError

INITIAL_MIN_LOG_VAR, INITIAL_MAX_LOG_VAR = -10.0, 0.5
"""Where the learned bounds of the log-variance start (MBPO)."""


@dataclass
class HeldOut:
    """Rows kept from training [S, H, W], with their weights of mean 1 [S, H]."""

    rows: Tensor
    weights: Tensor


class DynamicsEnsemble:
    """S × M Gaussian networks on standardised inputs and targets.

    Args:
        layout: the row's layout.
        config: its settings.
        weighting: `sample` or `loss`, where the weights enter.
        streams: random streams, one per seed.
        cuda_graphs: on a GPU, take the steps of an epoch as one CUDA graph.
        fused_kernels: on a GPU, take them by the kernels of `tom.kernels`, where they run and are
            faster.
        precision: of the products between hidden layers.
    """

    def __init__(
        self,
        layout: RowLayout,
        config: DynamicsConfig,
        weighting: Literal["sample", "loss"],
        streams: RandomStreams,
        *,
        cuda_graphs: bool = True,
        fused_kernels: bool = True,
        precision: Precision = "fp32",
    ) -> None:
        self.layout, self.config, self.weighting = layout, config, weighting
        self._streams = streams
        inputs, outputs = layout.state_action.stop, layout.observation_size + 1
        self.network = StackedMLP(
            config.members,
            (inputs, *config.hidden, 2 * outputs),
            "silu",
            streams,
            init="normal",
            extra={
                "min_log_var": ((outputs,), INITIAL_MIN_LOG_VAR),
                "max_log_var": ((outputs,), INITIAL_MAX_LOG_VAR),
            },
            precision=precision,
        )
        self.optimizer = Adam(self.network, config.learning_rate, weight_decay=config.weight_decay)
        seeds, device = self.network.seeds, streams.device
        self._graphs = StepGraphs(self.optimizer.trained, device, enabled=cuda_graphs)
        self._fused = fused_kernels and kernels.unavailable(device) is None
        self._input_mean = torch.zeros(seeds, 1, inputs, device=device)
        self._input_std = torch.ones(seeds, 1, inputs, device=device)
        self._target_mean = torch.zeros(seeds, 1, outputs, device=device)
        self._target_std = torch.ones(seeds, 1, outputs, device=device)
        self.elites = torch.arange(config.elites, device=device).repeat(seeds, 1)
        self._appended_at_fit = 0

    def fit(self, replays: Replays, weights: Tensor) -> dict[str, Tensor]:
        """Train on the buffers with weights [S, N].

        Held-out rows have taken part in no fit: their error chooses elites and the best epoch. To
        keep them out of the minibatches the buffers' weights are replaced; afterwards the caller
        sets those it wants.

        Each seed stops early by itself: when `patience` epochs have passed in which no member's
        held-out error fell by 1 % of what it was when it last did so, or after the first. Every
        member ends with the parameters of its best epoch. Those from before are no candidates, as
        in MBPO: most held-out rows are old, so that a model which learns the newest need not get
        better on them. What a stopped seed goes on learning beside the others is dropped, but it
        moves that seed's draws and Adam's moments, so a seed trained beside others is as good as
        one alone, not equal.

        Returns:
            Figures, each [S]: `model/train_nll` and `model/epochs`; negative log-likelihoods and
            squared errors of the means (in units of the targets' variance), averaged over targets
            and elites,

            - of the held-out rows, each counted once: `model/holdout_nll`, `model/holdout_mse`;
            - of the same with their weights, thus on what the weights say the policy visits:
              `model/weighted_holdout_nll`, `model/weighted_holdout_mse`;
            - of the rows appended since the last fit, before this one, by the model that the policy
              learned in meanwhile: `model/current_nll`, `model/current_mse`. They are the current
              policy's own and no model has seen them: the one number for what weights are good
              for. Absent from the first fit.

        Raises:
            TrainingError: the model has diverged.
        """
        config = self.config
        metrics = self._errors_on_new_rows(replays)
        self._standardise(replays)
        held_out, loss_weights = self._hold_out(replays, weights)
        best_flat = self.network.flat.clone()
        shape = (self.network.seeds, config.members)
        best = reference = torch.full(shape, torch.inf, device=best_flat.device)
        stale = torch.zeros(self.network.seeds, dtype=torch.int64, device=best.device)
        epochs = torch.zeros_like(stale)
        train_nll = torch.zeros(self.network.seeds, device=best.device)
        minibatches: tuple[Tensor, ...] = self._minibatches(replays, loss_weights)
        for epoch in range(config.epochs):
            running = stale < config.patience
            epoch_nll = self._train_epoch(*minibatches)
            minibatches = ()  # frees them before the next ones are made
            if epoch + 1 < config.epochs:
                # Before the host waits for this epoch's errors, so that it draws while a GPU
                # trains; for nothing if they say that this was the last epoch.
                minibatches = self._minibatches(replays, loss_weights)
            error = self._errors(held_out.rows, held_out.weights)[1]
            improved = running.unsqueeze(1) & (error < best)
            substantial = running.unsqueeze(1) & (error < 0.99 * reference)
            reference = torch.where(substantial, error, reference)
            self._keep(best_flat, improved)
            best = torch.where(improved, error, best)
            train_nll = torch.where(running, epoch_nll, train_nll)
            epochs += running
            stale = torch.where(substantial.any(1), 0, stale + 1)
            if not bool((stale < config.patience).any()):
                break
        self.network.flat.copy_(best_flat)
        self.elites = best.argsort(dim=1)[:, : config.elites]
        if not (best.gather(1, self.elites).isfinite().all() and train_nll.isfinite().all()):
            raise TrainingError(
                "the dynamics model's likelihood or held-out errors are not finite numbers any "
                "more: it has diverged; try a smaller dynamics.learning_rate"
            )
        ones = torch.ones_like(held_out.weights)
        metrics |= self.evaluate("holdout", held_out.rows, ones)
        metrics |= self.evaluate("weighted_holdout", held_out.rows, held_out.weights)
        return metrics | {"model/train_nll": train_nll, "model/epochs": epochs.float()}

    @torch.no_grad()
    def predict(self, inputs: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of (s' − s, r), in their own units.

        Args:
            inputs: (s, a), [S, E, B, O + A]; row block e of seed s is predicted by member
                `members[s, e]`.
            members: int64 [S, E].

        Returns:
            Two tensors [S, E, B, O + 1].
        """
        seeds = torch.arange(self.network.seeds, device=members.device).unsqueeze(1)
        weights = [w[seeds, members] for w in self.network.product_weights]
        biases = [b[seeds, members] for b in self.network.biases]
        low, high = (self.network.extra[k][seeds, members] for k in ("min_log_var", "max_log_var"))
        x = (inputs - self._input_mean.unsqueeze(1)) / self._input_std.unsqueeze(1)
        out = stacked_mlp(x, weights, biases, self.network.activation)
        mean, log_var = out.chunk(2, dim=-1)
        std = (0.5 * bound_log_var(log_var, low.unsqueeze(2), high.unsqueeze(2))).exp()
        scale = self._target_std.unsqueeze(1)
        return mean * scale + self._target_mean.unsqueeze(1), std * scale

    def _targets(self, rows: Tensor) -> Tensor:
        """(s' − s, r) of rows [..., W], [..., O + 1]."""
        layout = self.layout
        change = rows[..., layout.next_observation] - rows[..., layout.observation]
        return torch.cat([change, rows[..., layout.reward].unsqueeze(-1)], dim=-1)

    def _standardise(self, replays: Replays) -> None:
        self._input_mean, self._input_std = replays.standardisation(self.layout.state_action)
        targets = in_chunks(self._targets, replays.rows())
        std, self._target_mean = torch.std_mean(targets, dim=1, keepdim=True, correction=0)
        self._target_std = torch.where(std > 1e-6, std, 1.0)

    def _hold_out(self, replays: Replays, weights: Tensor) -> tuple[HeldOut, Tensor]:
        """Take the held-out rows and make the buffers draw only from the others.

        Returns the held-out rows, and the weights [S, N] that enter the loss of the others: all
        ones if the rows are drawn by weight already, else the weights over their mean, so that the
        loss keeps its scale beside the penalties.

        A row of weight 0 is never drawn, so setting the held-out rows' weights to 0 keeps them out
        of every minibatch, however the weights enter.
        """
        held = self._held_out_slots(replays)
        slots = held.expand(replays.seeds, -1)
        held_rows = take(replays.rows(), slots)
        held_weights = weights.gather(1, slots)
        mean = held_weights.mean(1, keepdim=True)
        held_weights = torch.where(mean > 0, held_weights / mean, 1.0)
        others = torch.ones_like(weights).scatter(1, slots, 0.0)
        train = weights * others
        # If all the mass happens to be held out, train on everything else alike.
        train = torch.where(train.sum(1, keepdim=True) > 0, train, others)
        if self.weighting == "sample":
            replays.set_weights(train)
            return HeldOut(held_rows, held_weights), torch.ones_like(weights)
        replays.set_weights(others)
        return HeldOut(held_rows, held_weights), train / (
            train.sum(1, keepdim=True) / (len(replays) - len(held))
        )

    def _held_out_slots(self, replays: Replays) -> Tensor:
        """[H], the same for all seeds, whose buffers fill together."""
        append_numbers = replays.total_appended - 1 - replays.ages()[0]
        return held_out_slots(append_numbers, self.config.holdout, self.config.max_holdout)

    def _minibatches(self, replays: Replays, loss_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One epoch's inputs, targets [K, S, M, B, ...] and weights; each member has its own."""
        config, members = self.config, self.config.members
        n = config.batches_per_epoch * members * config.batch_size
        index, rows = replays.sample(n)
        weight = loss_weights.gather(1, index).to(rows.dtype)
        inputs = (rows[..., self.layout.state_action] - self._input_mean) / self._input_std
        targets = (self._targets(rows) - self._target_mean) / self._target_std
        shape = (config.batches_per_epoch, members, config.batch_size)
        x, y, w = (t.unflatten(1, shape).transpose(0, 1) for t in (inputs, targets, weight))
        return x, y, w

    def _train_epoch(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """Steps on all of :meth:`_minibatches`; the mean loss [S]."""
        if self.config.native:
            return self._graphs.take(self._native_steps, x, y, weights)
        losses = [self._step(*batch) for batch in zip(x, y, weights, strict=True)]
        return torch.stack(losses).mean(0)

    def _native_steps(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """All steps in one operator; the mean loss [S]."""
        config = self.config
        return dynamics_steps(
            x,
            y,
            weights,
            network=self.optimizer.trained,
            hidden=config.hidden,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            log_var_penalty=config.log_var_penalty,
            precision=self.network.precision,
            fused=self._fused,
        )

    def _step(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """A step as autograd takes it, which the native ones agree with; the loss [S]."""
        low, high = self.network.extra["min_log_var"], self.network.extra["max_log_var"]
        mean, log_var = self.network(x).chunk(2, dim=-1)
        loss, _, _ = weighted_gaussian_nll(mean, log_var, low, high, y, weight=weight)
        penalty = self.config.log_var_penalty * (high - low).sum()
        # Adam's weight decay is of the layers alone: what it adds for the bounds is taken away.
        undecayed = -0.5 * self.config.weight_decay * (high.square().sum() + low.square().sum())
        self.optimizer.minimise(loss.sum() + penalty + undecayed)
        return loss.detach().mean(1)

    def _errors_on_new_rows(self, replays: Replays) -> dict[str, Tensor]:
        """The elites' errors on the rows that were appended after the last fit."""
        total = replays.total_appended
        new = min(total - self._appended_at_fit, len(replays))
        metrics = {}
        if self._appended_at_fit and new:
            rows = replays.newest(new)
            metrics = self.evaluate("current", rows, torch.ones_like(rows[..., 0]))
        self._appended_at_fit = total
        return metrics

    def evaluate(self, name: str, rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """How well the elites predict given rows.

        Args:
            name: of the metrics.
            rows: [S, H, W].
            weights: of each row, with mean 1, [S, H].

        Returns:
            `model/NAME_nll` and `model/NAME_mse`, weighted means over the rows, means over targets
            and elites, [S].
        """
        errors = zip(("nll", "mse"), self._errors(rows, weights), strict=True)
        return {f"model/{name}_{kind}": e.gather(1, self.elites).mean(1) for kind, e in errors}

    @torch.no_grad()
    def _errors(self, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Each member's NLL and squared error of its mean [S, M], averaged over the targets.

        Args:
            rows: [S, H, W].
            weights: of mean 1, [S, H].
        """
        x = (rows[..., self.layout.state_action] - self._input_mean) / self._input_std
        target = ((self._targets(rows) - self._target_mean) / self._target_std).unsqueeze(1)
        mean, log_var = self.network(x.unsqueeze(1)).chunk(2, dim=-1)
        low, high = self.network.extra["min_log_var"], self.network.extra["max_log_var"]
        log_var = bound_log_var(log_var, low.unsqueeze(2), high.unsqueeze(2))
        error = (mean - target).square()
        nll = 0.5 * (error * (-log_var).exp() + log_var)
        weights = weights.unsqueeze(1).to(error.dtype)
        return (nll.mean(3) * weights).mean(2), (error.mean(3) * weights).mean(2)

    @torch.no_grad()
    def _keep(self, best_flat: Tensor, improved: Tensor) -> None:
        """Copy the parameters of the improved members [S, M] into the snapshot."""
        counts = [p.numel() for p in self.network.parameters]
        blocks = zip(best_flat.split(counts), self.network.parameters, strict=True)
        for block, parameter in blocks:
            kept = block.view_as(parameter)
            mask = improved.view(*improved.shape, *[1] * (parameter.dim() - 2))
            kept.copy_(torch.where(mask, parameter, kept))

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": self._streams.state_dict(),
            "input_mean": self._input_mean,
            "input_std": self._input_std,
            "target_mean": self._target_mean,
            "target_std": self._target_std,
            "elites": self.elites,
            "appended_at_fit": torch.full((self.network.seeds,), self._appended_at_fit),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        device = self._streams.device
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._streams.load_state_dict(state["streams"])
        self._input_mean = state["input_mean"].to(device)
        self._input_std = state["input_std"].to(device)
        self._target_mean = state["target_mean"].to(device)
        self._target_std = state["target_std"].to(device)
        self.elites = state["elites"].to(device)
        self._appended_at_fit = int(state["appended_at_fit"][0])


def bound_log_var(log_var: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """MBPO's soft bounds: smoothly between `low` and `high`, with a gradient everywhere."""
    log_var = high - torch.nn.functional.softplus(high - log_var)
    return low + torch.nn.functional.softplus(log_var - low)
