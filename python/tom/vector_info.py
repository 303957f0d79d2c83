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

    def unpack(
        self,
        columns: npt.NDArray[np.float64],
        action_type: npt.DTypeLike | None = None,
        *,
        begun: npt.NDArray[np.bool_] | None = None,
        only: npt.NDArray[np.bool_] | None = None,
    ) -> dict[str, Any]:
        """Return the infos of one call.

        Args:
            columns: the info matrix. A reset fills the columns that it reports and zeroes the rest.
            action_type: type of the actions by which steps were made; None: none were made.
            begun: the sub-environments `[N]` that have just begun an episode and report what a
                reset does; None: none has.
            only: the sub-environments `[N]` that report at all; None: all do.
        """
        table = columns.T.copy()  # one copy for all: the fields are its rows
        if only is not None:
            table[:, ~only] = 0.0
        nobody_stepped = action_type is None or (begun is not None and bool(begun.all()))
        count = self._at_reset if nobody_stepped else len(self._names)
        reported = np.ones((count, len(columns)), dtype=np.bool_)
        if only is not None:
            reported &= only
        if begun is not None:
            reported[self._at_reset :] &= ~begun
        rows = list(table)
        arrays: list[npt.NDArray[Any]] = [rows[begin] for begin in self._begins[:count]]
        for i, where, kind, vector in self._special:
            if i >= count:
                break
            if vector:
                arrays[i] = table[where].T.copy()
            else:
                arrays[i] = arrays[i].astype(action_type if kind == "action" else kind)
        infos: dict[str, Any] = dict(zip(self._names, arrays, strict=False))
        infos.update(zip(self._mask_names, reported, strict=False))
        return infos


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
