"""Random numbers, one independent stream per seed.

A seed's stream does not depend on which other seeds are trained beside it: every draw of shape
[S, ...] is filled seed by seed from that seed's own generator.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class RandomStreams:
    """One `torch.Generator` per seed, for one purpose.

    Args:
        seeds: the runs' seeds.
        purpose: name of the consumer; different names give independent streams.
        device: where the numbers are made.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, device: torch.device) -> None:
        self.device = device
        self.generators = []
        for seed in seeds:
            entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
            generator = torch.Generator(device)
            generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
            self.generators.append(generator)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [S, *shape]."""
        out = torch.empty(len(self.generators), *shape, device=self.device)
        for part, generator in zip(out, self.generators, strict=True):
            part.normal_(generator=generator)
        return out

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), [S, *shape]."""
        out = torch.empty(len(self.generators), *shape, device=self.device)
        for part, generator in zip(out, self.generators, strict=True):
            part.uniform_(generator=generator)
        return out

    def integers(self, high: Sequence[int], *shape: int) -> Tensor:
        """Uniform integers in [0, high[s]), int64 [S, *shape]."""
        out = torch.empty(len(self.generators), *shape, dtype=torch.int64, device=self.device)
        for part, generator, top in zip(out, self.generators, high, strict=True):
            torch.randint(top, shape, generator=generator, out=part)
        return out

    def state_dict(self) -> dict[str, Tensor]:
        """The streams' positions, [S, bytes]."""
        return {"generators": torch.stack([g.get_state() for g in self.generators])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        for generator, position in zip(self.generators, state["generators"], strict=True):
            # A copy: set_state crashes on a view that does not start its storage.
            generator.set_state(position.clone())
