"""The state of NumPy's default generator (PCG64) as bytes, so that it fits into a tensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# state, increment and the seed that it came from: 16 bytes each; a buffered half of a draw: 8.
GENERATOR_BYTES = 56
_UNKNOWN_SEED = (1 << 128) - 1


def encode_generator(rng: np.random.Generator, seed: int) -> npt.NDArray[np.uint8]:
    """Return `[GENERATOR_BYTES]` from which `decode_generator` restores `rng`."""
    state = rng.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise ValueError(
            f"np_random uses {state['bit_generator']}, but only NumPy's PCG64 can be saved; use "
            "numpy.random.default_rng."
        )
    half = state["has_uint32"] << 32 | state["uinteger"]
    packed = b"".join(
        (
            state["state"]["state"].to_bytes(16, "little"),
            state["state"]["inc"].to_bytes(16, "little"),
            half.to_bytes(8, "little"),
            (seed if 0 <= seed < _UNKNOWN_SEED else _UNKNOWN_SEED).to_bytes(16, "little"),
        )
    )
    return np.frombuffer(packed, dtype=np.uint8)


def decode_generator(encoded: npt.NDArray[np.uint8]) -> tuple[np.random.Generator, int]:
    """Return the generator and its seed (-1 if unknown) from `encode_generator`'s bytes.

    Raises:
        ValueError: the bytes are not such.
    """
    packed = encoded.tobytes()
    state, increment, half, seed = (
        int.from_bytes(packed[begin:end], "little")
        for begin, end in ((0, 16), (16, 32), (32, 40), (40, 56))
    )
    if half >> 32 > 1 or increment % 2 == 0:  # PCG64's increment is odd
        raise ValueError("the state's generators are damaged: they are not NumPy's PCG64.")
    bits = np.random.PCG64()
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": increment},
        "has_uint32": half >> 32,
        "uinteger": half & 0xFFFFFFFF,
    }
    return np.random.Generator(bits), -1 if seed == _UNKNOWN_SEED else seed
