"""A weighting of the user's own, `--algorithm module:function`."""

from __future__ import annotations

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
        self._weighting: Weighting = made
        self.uniform_share = float(made.uniform_share)

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
        if not (weights.isfinite() & (weights >= 0)).all() or not (weights > 0).any(1).all():
            raise self._error(
                "returned weights that are negative, not finite, or all 0 for a seed",
                "finite ones ≥ 0, some of them positive",
            )
        for name, value in dict(metrics).items():
            if not isinstance(value, Tensor) or value.shape != (seeds,):
                raise self._error(f"returned {name} {_text(value)}", f"a tensor [{seeds}]")
        return weights.detach(), metrics

    def state_dict(self) -> State:
        """The user's."""
        return self._weighting.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._weighting.load_state_dict(state)

    def _error(self, happened: str, allowed: str) -> TrainingError:
        return TrainingError(f"the update of {self.name} {happened}; allowed are {allowed}")


def _text(value: object) -> str:
    return (
        str(list(value.shape)) if isinstance(value, Tensor) else f"of type {type(value).__name__}"
    )
