"""What the simulator reports of a step that went wrong, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

_UNSTABLE, _BAD_CONTROL, _ERROR = 1, 2, 4  # Simulator::Trouble


def describe(troubles: npt.NDArray[np.uint8], error: Callable[[int], str]) -> Iterator[str]:
    """One sentence for each simulation that had trouble, with its index.

    Args:
        troubles: flags `[N]`, as the simulator sets them.
        error: MuJoCo's last message for a simulation.
    """
    for i, trouble in enumerate(troubles.tolist()):
        if trouble & _ERROR:
            what = f"raised an error ({error(i)}), which ended its episode"
        elif trouble & _UNSTABLE:
            what = "became unstable (NaN or huge numbers), and MuJoCo reset its state"
        elif trouble & _BAD_CONTROL:
            what = "was given NaN or a huge number as action, and MuJoCo applied none"
        else:
            continue
        yield f"simulation {i} {what}."
