"""tom: policy-aware dynamics models by Transition Occupancy Matching."""

from tom import _libraries as _libraries

__version__ = "0.1.0"
