"""The `infos` of a vector environment, as Gymnasium's `VectorEnv._add_info` builds them.

Every key holds one array over all sub-environments, zero where a sub-environment reported
nothing, beside a boolean array `_key` that says which did.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class InfoLayout:
    """Names and types of the columns of the simulator's info matrix `[N, columns]`."""

    def __init__(self, fields: list[tuple[str, bool, str, int, bool]]) -> None:
        """Take the fields as the simulator lists them: name, at reset, type, columns, vector."""
        self._fields = []
        begin = 0
        for name, at_reset, kind, size, vector in fields:
            self._fields.append((name, at_reset, kind, slice(begin, begin + size), vector))
            begin += size

    def unpack(
        self,
        infos: dict[str, Any],
        columns: npt.NDArray[np.float64],
        mask: npt.NDArray[np.bool_],
        action_type: npt.DTypeLike | None = None,
    ) -> None:
        """Add to `infos` what the sub-environments in `mask` [N] report.

        They have made a step by actions of `action_type`, or, if it is None, begun an episode.
        """
        if not mask.any():
            return
        everyone = mask.all()
        for name, at_reset, kind, where, vector in self._fields:
            if action_type is None and not at_reset:
                continue
            if kind == "norm":
                # np.linalg.norm is the square root of a BLAS dot product, whose last bit depends
                # on the processor; vecdot calls the same routine.
                pair = np.ascontiguousarray(columns[:, where])
                values = np.sqrt(np.vecdot(pair, pair))
            else:
                values = columns[:, where] if vector else columns[:, where.start]
                values = values.astype(action_type if kind == "action" else kind)
            reported = mask.copy()
            if not everyone:
                merged = infos.get(name, np.zeros_like(values))
                merged[mask] = values[mask]
                values = merged
                reported |= infos.get(f"_{name}", False)
            infos[name], infos[f"_{name}"] = values, reported


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
