"""A weighting of the user's own, `--algorithm module:function`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tom.config import Config, ConfigError
from tom.dual_q import Policy
from tom.replays import Replays
from tom.rows import RowLayout
from tom.state import State
from tom.training_error import TrainingError
from tom.user_code import describe, named_function
from tom.weighting import InitialStates, Weighting

_MEMBERS = ("uniform_share", "update", "state_dict", "load_state_dict")
_WANTED = (
    "a function (or class) of layout, config, seeds and device that makes an object with "
    "uniform_share, update, state_dict and load_state_dict, see tom.weighting.Weighting"
)


class OwnWeighting:
    """Checks what the user's weighting returns before anything is trained by it.

    Args:
        layout: the row's layout.
        config: the run's settings; `algorithm` names the function.
        seeds: the runs' seeds.
        device: where the networks live.

    Raises:
        ValueError: no such function, or its module cannot be imported.
        ConfigError: the function raised an error, or made something else.
    """

    def __init__(
        self, layout: RowLayout, config: Config, seeds: list[int], device: torch.device
    ) -> None:
        self.name = config.algorithm
        make = named_function(self.name, f"algorithm is {self.name!r}", _WANTED)
        given = f"algorithm: given {self.name!r}, which"
        try:
            made = make(layout, config, seeds, device)
        except Exception as error:
            raise ConfigError(f"{given} raised {describe(error)}, allowed is {_WANTED}") from error
        missing = [member for member in _MEMBERS if not hasattr(made, member)]
        if missing:
            raise ConfigError(
                f"{given} made a {type(made).__name__} without {missing[0]}, allowed is {_WANTED}"
            )
        share = made.uniform_share
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(f"{given} has uniform_share {share!r}, allowed is a number in [0, 1]")
        self._weighting: Weighting = made
        self._seeds = len(seeds)
        self.uniform_share = float(share)
        try:
            self.state_dict()  # now, not when the first checkpoint is written
        except TrainingError as error:
            raise ConfigError(f"algorithm: given {self.name!r}, but {error}") from error

    def update(
        self, replays: Replays, initial_states: InitialStates, policy: Policy
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The user's weights and metrics; raises TrainingError if they cannot be used."""
        returned = self._weighting.update(replays, initial_states, policy)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise self._error(f"returned a {type(returned).__name__}", "weights and metrics")
        weights, metrics = returned
        seeds, shape = replays.seeds, (replays.seeds, len(replays))
        if not isinstance(weights, Tensor) or weights.shape != shape:
            raise self._error(f"returned weights {_text(weights)}", f"a tensor {list(shape)}")
        if weights.dtype not in (torch.float32, torch.float64):
            kind = str(weights.dtype).removeprefix("torch.")
            raise self._error(f"returned weights of {kind}", "weights of float32 or float64")
        if not (weights.isfinite() & (weights >= 0)).all() or not (weights > 0).any(1).all():
            raise self._error(
                "returned weights that are negative, not finite, or all 0 for a seed",
                "finite ones ≥ 0, some of them positive",
            )
        if not isinstance(metrics, Mapping):
            raise self._error(f"returned metrics {_text(metrics)}", "dictionaries")
        for name, value in metrics.items():
            if not isinstance(name, str) or "/" not in name:
                raise self._error(f"returned a metric {name!r}", "names such as 'tom/kept'")
            if not isinstance(value, Tensor) or value.shape != (seeds,):
                raise self._error(f"returned {name} {_text(value)}", f"a tensor [{seeds}]")
        return weights.detach().to(replays.device), dict(metrics)

    def state_dict(self) -> State:
        """The user's; raises TrainingError if it could not be split into one of each seed."""
        state = self._weighting.state_dict()
        self._check_state("the state", state)
        return state

    def _check_state(self, name: str, state: object) -> None:
        if isinstance(state, Mapping):
            for key, value in state.items():
                self._check_state(f"{name}'s {key}", value)
        elif not isinstance(state, Tensor) or state.shape[:1] != (self._seeds,):
            raise TrainingError(
                f"{name} that {self.name} saves is {_text(state)}; allowed are tensors "
                f"[{self._seeds}, ...], the seeds first, and dictionaries of them"
            )

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._weighting.load_state_dict(state)

    def _error(self, happened: str, allowed: str) -> TrainingError:
        return TrainingError(f"the update of {self.name} {happened}; allowed are {allowed}")


def _text(value: object) -> str:
    return (
        str(list(value.shape)) if isinstance(value, Tensor) else f"of type {type(value).__name__}"
    )
