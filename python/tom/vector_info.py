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
            where = slice(begin, begin + size)
            self._fields.append((name, f"_{name}", at_reset, kind, begin, where, vector))
            begin += size

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
        table = columns.T.copy()  # one copy for all fields: the arrays below are its rows
        masks = np.ones((len(self._fields), columns.shape[0]), dtype=np.bool_)
        if mask is not None:
            masks &= mask
        for (name, mask_name, at_reset, kind, begin, where, vector), reported in zip(
            self._fields, masks, strict=True
        ):
            if action_type is None and not at_reset:
                continue
            values: npt.NDArray[Any]
            if kind == "norm":
                # np.linalg.norm is the square root of a BLAS dot product, whose last bit depends
                # on the processor; vecdot calls the same routine.
                pair = np.ascontiguousarray(columns[:, where])
                values = np.sqrt(np.vecdot(pair, pair))
            elif vector:
                values = columns[:, where].copy()
            elif kind == "float64":
                values = table[begin]
            else:
                values = table[begin].astype(action_type if kind == "action" else kind)
            if mask is not None:
                merged = infos.get(name)
                if merged is None:
                    merged = np.zeros_like(values)
                else:
                    reported |= infos[mask_name]
                merged[mask] = values[mask]
                values = merged
            infos[name], infos[mask_name] = values, reported


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
