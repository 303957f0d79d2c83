"""Stacks of MLPs: every network of the project is one.

A stack has two leading axes, seed S and member M: twin critics are a stack with M = 2, the
dynamics ensemble one with M = 7, and five seeds trained at once make S = 5. One operator computes
all of them, and all parameters of a stack lie in one flat vector, so that an optimiser step, a
target update and a snapshot are one call each.

With `precision="bf16"` the products between hidden layers are made of bfloat16 factors, summed in
float32 and rounded to bfloat16, forward and backward. Everything else stays float32: parameters,
optimiser, biases, activations, losses, and the first layer, which reads the data, and the last,
whose output is the result. Those two are narrow, so that little time is theirs, and neither an
observation nor a value of hundreds loses digits. `precision="tf32"` is for GPUs, whose matrix units
then read eleven binary digits of the factors of all products: torch is told for the whole process
(`tom.precision.use_precision`), and rounds to them, the fused kernels cut the others off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tom.names import Activation, Precision
from tom.ops import stacked_mlp
from tom.streams import RandomStreams


class StackedMLP:
    """S × M MLPs with the same layer sizes.

    Args:
        members: M, networks per seed.
        sizes: widths from input to output, for example `(14, 256, 256, 1)`.
        activation: of the hidden layers; the output is linear.
        streams: random streams for the initialisation; their number is S.
        init: `uniform` is PyTorch's default for linear layers, ±1/√fan_in; `normal` is MBPO's
            for the ensemble, truncated at two standard deviations of 1/(2√fan_in).
        extra: further parameters by name, with shape and initial value; each is [S, M, *shape].
        precision: of the products between hidden layers.
    """

    def __init__(
        self,
        members: int,
        sizes: Sequence[int],
        activation: Activation,
        streams: RandomStreams,
        *,
        init: Literal["uniform", "normal"] = "uniform",
        extra: Mapping[str, tuple[tuple[int, ...], float]] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.seeds, self.members = len(streams.generators), members
        self.activation: Activation = activation
        self.precision: Precision = precision
        self._init, self._streams = init, streams
        self._extra = dict(extra or {})
        shapes: list[tuple[int, ...]] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            shapes += [(fan_in, fan_out), (fan_out,)]
        shapes += [shape for shape, _ in self._extra.values()]
        counts = [self.seeds * members * math.prod(shape) for shape in shapes]
        self.flat = torch.zeros(sum(counts), device=streams.device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.parameters: list[nn.Parameter] = []
        blocks = zip(self.flat.split(counts), self.flat.grad.split(counts), shapes, strict=True)
        for block, gradient, shape in blocks:
            parameter = nn.Parameter(block.view(self.seeds, members, *shape))
            parameter.grad = gradient.view(self.seeds, members, *shape)
            self.parameters.append(parameter)
        layers = 2 * (len(sizes) - 1)
        self.weights: list[Tensor] = list(self.parameters[0:layers:2])
        self.biases: list[Tensor] = list(self.parameters[1:layers:2])
        self.extra = dict(zip(self._extra, self.parameters[layers:], strict=True))
        self.reset()

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [S, M, B, O] of inputs [S, M, B, I]; with [S, 1, B, I] all members share them."""
        return stacked_mlp(x, self.product_weights, self.biases, self.activation)

    @property
    def product_weights(self) -> list[Tensor]:
        """The weights [S, M, in, out] as the products read them: rounded between hidden layers."""
        if self.precision != "bf16":
            return self.weights
        between = range(1, len(self.weights) - 1)
        return [w.bfloat16() if layer in between else w for layer, w in enumerate(self.weights)]

    @torch.no_grad()
    def reset(self) -> None:
        """Draw fresh parameters."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            fan_in = weight.shape[-2]
            if self._init == "uniform":
                bound = 1 / math.sqrt(fan_in)
                weight.copy_((2 * self._streams.uniform(*weight.shape[1:]) - 1) * bound)
                bias.copy_((2 * self._streams.uniform(*bias.shape[1:]) - 1) * bound)
            else:
                # A normal truncated at ±2 by inversion of its distribution function.
                inside = math.erf(2 / math.sqrt(2))
                u = (2 * self._streams.uniform(*weight.shape[1:]) - 1) * inside
                weight.copy_(torch.erfinv(u) * (math.sqrt(2) / (2 * math.sqrt(fan_in))))
                bias.zero_()
        for name, (_, value) in self._extra.items():
            self.extra[name].fill_(value)

    def per_seed(self, flat: Tensor) -> Tensor:
        """[S, P] copy of a vector laid out like :attr:`flat`: each seed's own numbers."""
        counts = [p.numel() for p in self.parameters]
        return torch.cat([b.view(self.seeds, -1) for b in flat.split(counts)], dim=1)

    @torch.no_grad()
    def load_per_seed(self, flat: Tensor, state: Tensor) -> None:
        """Write `state`, as :meth:`per_seed` gives it, into a vector laid out like `flat`."""
        counts = [p.numel() for p in self.parameters]
        parts = state.split([n // self.seeds for n in counts], dim=1)
        for block, part in zip(flat.split(counts), parts, strict=True):
            block.view(self.seeds, -1).copy_(part)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters, [S, P]."""
        return {"parameters": self.per_seed(self.flat)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.load_per_seed(self.flat, state["parameters"])


class Adam:
    """Adam over a stack's flat vector: one fused call, whatever the number of layers.

    Args:
        network: the stack it trains.
        learning_rate: step size.
        weight_decay: L2 penalty added to the gradient.
    """

    def __init__(
        self, network: StackedMLP, learning_rate: float, *, weight_decay: float = 0.0
    ) -> None:
        self._network = network
        flat = network.flat
        self._moments = {
            "exp_avg": torch.zeros_like(flat, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(flat, requires_grad=False),
        }
        # The fused step reads the counter on the parameters' own device.
        self._step = torch.zeros((), dtype=torch.float32, device=flat.device)
        self._adam = torch.optim.Adam(
            [flat], lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        self._adam.state[flat] = {"step": self._step, **self._moments}

    @property
    def trained(self) -> list[Tensor]:
        """What the native training steps update in place.

        The parameters, their gradient, Adam's two moments, each a flat vector [P], and its counter.
        """
        flat = self._network.flat
        assert flat.grad is not None
        return [flat, flat.grad, *self._moments.values(), self._step]

    def reset(self) -> None:
        """Forget the moments."""
        for tensor in (*self._moments.values(), self._step):
            tensor.zero_()

    def minimise(self, loss: Tensor) -> None:
        """One step down the gradient of the scalar `loss`.

        Only this network's parameters receive gradients. Seeds and members do not mix, so that a
        loss summed over them gives each network the step it would have taken alone.
        """
        gradient = self._network.flat.grad
        assert gradient is not None
        gradient.zero_()
        loss.backward(inputs=self._network.parameters)
        self._adam.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Moments [S, P] and the number of steps [S]."""
        network = self._network
        moments = {name: network.per_seed(vector) for name, vector in self._moments.items()}
        return {**moments, "step": self._step.expand(network.seeds).clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        for name, vector in self._moments.items():
            self._network.load_per_seed(vector, state[name])
        self._step.copy_(state["step"][0])
