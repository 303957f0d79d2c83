"""Training steps recorded once as a CUDA graph and launched as one from then on.

Networks as small as these keep a GPU busy for a few microseconds per kernel, less than the host
needs to launch one. A graph launches the thousands of kernels of many steps in one call. It reads
and writes fixed memory: so the inputs are copied into tensors of its own, the networks are changed
where they are, and random numbers, which a graph would repeat, are inputs.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_capturing = threading.Lock()

Steps = Callable[..., Tensor]
"""Queues training steps that read the tensors given; what it returns, it does not wait for."""


class Recorder(Protocol):
    """Makes one graph: warms up, then captures."""

    def warm_up(self, run: Callable[[], Tensor]) -> None:
        """Run once, so that everything made at the first use is made before the capture."""
        ...

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """A function that does again what `run` queues, and where it leaves its result.

        Nothing is computed before that function is called.
        """
        ...


@dataclass
class _Recording:
    inputs: list[Tensor]
    replay: Callable[[], object]
    output: Tensor


class StepGraphs:
    """Takes training steps by one graph per set of input shapes; on the CPU, as they are.

    The steps launch the same kernels at every call with inputs of the same shapes. Besides their
    inputs they read only tensors that stay where they are. They are given at each call and not
    kept, so that a part and its graphs, which hold much memory, are freed with their last user.

    Args:
        state: all tensors that the steps change in place. They must stay where they are, too.
        device: where all of it lies.
        enabled: whether the user wants graphs.
        make_recorder: one recorder for each graph; left out, CUDA's on a GPU and none elsewhere.
    """

    def __init__(
        self,
        state: Sequence[Tensor],
        device: torch.device,
        *,
        enabled: bool = True,
        make_recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        self._state = list(state)
        if make_recorder is None and device.type == "cuda":
            make_recorder = functools.partial(CudaRecorder, device)
        self._make_recorder = make_recorder if enabled else None
        self._recordings: dict[tuple[object, ...], _Recording] = {}

    def take(self, steps: Steps, *inputs: Tensor) -> Tensor:
        """`steps(*inputs)`, with the same result and effect.

        Args:
            steps: the same at every call.
            inputs: what they read.

        Raises:
            RuntimeError: The steps cannot be recorded; the state is as it was.
        """
        if self._make_recorder is None:
            return steps(*inputs)
        key = tuple((x.shape, x.dtype) for x in inputs)
        if key not in self._recordings:
            self._recordings[key] = self._record(self._make_recorder(), steps, inputs)
        recording = self._recordings[key]
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given)
        recording.replay()
        return recording.output.clone()  # the next replay overwrites it

    @torch.no_grad()
    def _record(self, recorder: Recorder, steps: Steps, inputs: Sequence[Tensor]) -> _Recording:
        own = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
        before = [tensor.clone() for tensor in self._state]
        try:
            recorder.warm_up(lambda: steps(*own))
        finally:
            for tensor, value in zip(self._state, before, strict=True):
                tensor.copy_(value)
        try:
            replay, output = recorder.capture(lambda: steps(*own))
        except RuntimeError as error:
            raise RuntimeError(
                "the training steps could not be recorded as a CUDA graph; train without graphs "
                "by --no-cuda-graphs"
            ) from error
        return _Recording(own, replay, output)


class CudaRecorder:
    """Records work of the current device's stream; to be used for one graph.

    The graph keeps the address of the cuBLAS workspace of the stream that it is captured on, and
    torch frees the workspace with the first graph of that stream that is deleted (pytorch/pytorch
    issue 193402). Hence a stream for each graph. The warm-up is on that stream too, which puts the
    workspace outside the graph's own memory.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, run: Callable[[], Tensor]) -> None:
        """Load the kernels and create the cuBLAS handle and its workspace."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            try:
                with torch.cuda.stream(self._stream):
                    run()
            finally:  # what follows may undo what was queued
                current.wait_stream(self._stream)

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Its replay, on whatever stream is then current, and its result."""
        graph = torch.cuda.CUDAGraph()
        with (
            _no_garbage_collection(),
            torch.cuda.device(self._device),
            torch.cuda.graph(graph, stream=self._stream),
        ):
            output = run()
        return graph.replay, output


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect now and not within: CUDA does not let go of another graph during a capture.

    What is captured may run Python, which collects when it likes. One thread captures at a time.
    """
    with _capturing:
        gc.collect()
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()
