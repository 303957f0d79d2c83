"""The `infos` of a vector environment, as Gymnasium's `VectorEnv._add_info` builds them.

Every key holds one array over all sub-environments, zero where a sub-environment reported
nothing, beside a boolean array `_key` that says which did.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt


class InfoLayout:
    """Names and types of the columns of the simulator's info matrix `[N, columns]`."""

    def __init__(self, fields: list[tuple[str, bool, str, int, bool]]) -> None:
        """Take the fields as the simulator lists them: name, at reset, type, columns, vector."""
        self._names = [name for name, *_ in fields]
        self._mask_names = [f"_{name}" for name in self._names]
        self._at_reset = sum(at_reset for _, at_reset, *_ in fields)  # they come first
        ends = itertools.accumulate(size for *_, size, _ in fields)
        self._begins = [end - size for end, (*_, size, _) in zip(ends, fields, strict=True)]
        # Most fields are one column of float64; these are not.
        self._special = [
            (i, slice(self._begins[i], self._begins[i] + size), kind, vector)
            for i, (*_, kind, size, vector) in enumerate(fields)
            if vector or kind != "float64"
        ]

    def _arrays(
        self, columns: npt.NDArray[np.float64], action_type: npt.DTypeLike | None
    ) -> list[npt.NDArray[Any]]:
        """One array over all sub-environments for each field; after a reset, for the first few."""
        table = list(columns.T.copy())  # one copy for all: the fields are its rows
        arrays: list[npt.NDArray[Any]] = [table[begin] for begin in self._begins]
        if action_type is None:
            del arrays[self._at_reset :]
        for i, where, kind, vector in self._special:
            if i >= len(arrays):
                break
            if vector:
                arrays[i] = columns[:, where].copy()
            else:
                arrays[i] = arrays[i].astype(action_type if kind == "action" else kind)
        return arrays

    def unpack(
        self,
        infos: dict[str, Any],
        columns: npt.NDArray[np.float64],
        mask: npt.NDArray[np.bool_] | None,
        action_type: npt.DTypeLike | None = None,
    ) -> None:
        """Add to `infos` what the sub-environments in `mask` [N], or all of them, report.

        They have made a step by actions of `action_type`, or, if it is None, begun an episode.
        """
        arrays = self._arrays(columns, action_type)
        masks = np.ones((len(arrays), len(columns)), dtype=np.bool_)
        if mask is None:
            infos.update(zip(self._names, arrays, strict=False))
            infos.update(zip(self._mask_names, masks, strict=False))
            return
        masks &= mask
        for name, mask_name, values, reported in zip(
            self._names, self._mask_names, arrays, masks, strict=False
        ):
            merged = infos.get(name)
            if merged is None:
                merged = np.zeros_like(values)
            else:
                reported |= infos[mask_name]
            merged[mask] = values[mask]
            infos[name], infos[mask_name] = merged, reported


def final_infos(
    observations: npt.NDArray[np.float64], final_info: dict[str, Any], mask: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Return the entries of `AutoresetMode.SAME_STEP` for the episodes in `mask` that ended."""
    final_obs = np.full(mask.size, None, dtype=object)
    for i in np.flatnonzero(mask):
        final_obs[i] = observations[i].copy()
    return {
        "final_obs": final_obs,
        "_final_obs": mask.copy(),
        "final_info": final_info,
        "_final_info": mask.copy(),
    }
