"""Bad input gets a sentence that says what was given and what is allowed, and changes nothing."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.masked import masked_tensor

from tom.replay import ReplayBuffer

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3), ValueError, "capacity is 0"),
        ((-1, 3), ValueError, "capacity is -1"),
        ((10, 0), ValueError, "width is 0"),
        ((10, 3, -1), ValueError, "seed is -1"),
        ((10, 3, 2**63), ValueError, "seed is 9223372036854775808"),
        ((2**40, 2**20), ValueError, "is more than 2^44"),
        ((2**40, 2**4), MemoryError, "capacity 1099511627776 times width 16 takes 65,536.0 GiB"),
        ((10.0, 3), TypeError, "capacity is 10.0; it must be an int"),
        ((True, 3), TypeError, "capacity is True"),
    ],
)
def test_constructor(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ReplayBuffer(*arguments)


def rows(n: int = 2, width: int = 3) -> torch.Tensor:
    return torch.ones(n, width)


Call = Callable[[ReplayBuffer], Any]

CASES: list[tuple[str, Call, type[Exception], str]] = [
    ("append list", lambda b: b.append([[1.0, 2.0, 3.0]]), TypeError, "rows is of type list"),
    (
        "append vector",
        lambda b: b.append(torch.ones(3)),
        ValueError,
        "shape (3,); it must be [n, 3]",
    ),
    ("append width", lambda b: b.append(rows(2, 4)), ValueError, "shape (2, 4); it must be [n, 3]"),
    ("append double", lambda b: b.append(rows().double()), TypeError, "dtype float64; it must be"),
    ("append half", lambda b: b.append(rows().bfloat16()), TypeError, "dtype bfloat16"),
    ("append meta", lambda b: b.append(rows().to("meta")), ValueError, "pass rows.cpu()"),
    ("append stride", lambda b: b.append(torch.ones(3, 2).T), ValueError, "not contiguous"),
    ("append sparse", lambda b: b.append(rows().to_sparse()), ValueError, "as rows.to_dense()"),
    (
        "set negated",
        lambda b: b.set_weights(torch._neg_view(-torch.ones(5))),
        ValueError,
        "w is a negated view; pass w.resolve_neg()",
    ),
    ("gather list", lambda b: b.gather([0, 1]), TypeError, "idx is of type list"),
    (
        "gather read-only out",
        lambda b: b.gather(torch.tensor([1]), out=np.frombuffer(bytes(12), "f4").reshape(1, 3)),
        ValueError,
        "out is read-only",
    ),
    ("append many", lambda b: b.append(rows(9)), ValueError, "more than the capacity of 8"),
    ("append nan", lambda b: b.append(rows(), NAN), ValueError, "weight 0 is nan"),
    (
        "append weight",
        lambda b: b.append(rows(), torch.tensor([1.0, -1.0])),
        ValueError,
        "weight 1 is",
    ),
    (
        "append weights",
        lambda b: b.append(rows(), torch.ones(3)),
        ValueError,
        "3 entries for 2 rows",
    ),
    (
        "append one weight",
        lambda b: b.append(rows(), torch.ones(1)),
        ValueError,
        "weight has 1 entries for 2 rows",
    ),
    ("append huge int", lambda b: b.append(rows(), 10**400), ValueError, "weight 0 is inf"),
    ("append low int", lambda b: b.append(rows(), -(10**5000)), ValueError, "weight 0 is -inf"),
    ("append text", lambda b: b.append(rows(), "1"), TypeError, "weight is of type str; pass a"),
    (
        "append complex",
        lambda b: b.append(rows(), np.complex64(1)),
        TypeError,
        "weight is of type numpy.complex64; pass a number",
    ),
    (
        "append complex tensor",
        lambda b: b.append(rows(), torch.tensor(1j)),
        TypeError,
        "weight is of type complex; pass a number",
    ),
    ("append weight 2d", lambda b: b.append(rows(), torch.ones(2, 1)), ValueError, "one dimension"),
    (
        "append weight int",
        lambda b: b.append(rows(), torch.ones(2).int()),
        TypeError,
        "dtype int32",
    ),
    (
        "set nan",
        lambda b: b.set_weights(torch.tensor([1, 1, NAN, 1, NAN])),
        ValueError,
        "weight 2 is nan",
    ),
    (
        "set inf",
        lambda b: b.set_weights(torch.tensor([1, 1, 1, 1, INF])),
        ValueError,
        "weight 4 is inf",
    ),
    (
        "set -1",
        lambda b: b.set_weights(np.array([1, -1.0, 1, 1, 1])),
        ValueError,
        "weight 1 is -1.0",
    ),
    ("set huge", lambda b: b.set_weights(np.full(5, 1e300)), ValueError, "at most 1e290"),
    (
        "set few",
        lambda b: b.set_weights(torch.ones(4)),
        ValueError,
        "4 entries; the buffer has 5 rows",
    ),
    (
        "set many",
        lambda b: b.set_weights(torch.ones(6)),
        ValueError,
        "6 entries; the buffer has 5 rows",
    ),
    (
        "set beyond",
        lambda b: b.set_weights(torch.ones(6), allow_newer=True),
        ValueError,
        "6 entries",
    ),
    ("set int", lambda b: b.set_weights(torch.ones(5).int()), TypeError, "dtype int32"),
    ("set 2d", lambda b: b.set_weights(torch.ones(5, 1)), ValueError, "one dimension"),
    ("set stride", lambda b: b.set_weights(torch.ones(10)[::2]), ValueError, "not contiguous"),
    (
        "update low",
        lambda b: b.update_weights(torch.tensor([0, -1]), 1.0),
        IndexError,
        "idx[1] is -1",
    ),
    (
        "update high",
        lambda b: b.update_weights(torch.tensor([0, 5]), 1.0),
        IndexError,
        "with len = 5",
    ),
    (
        "update float",
        lambda b: b.update_weights(torch.ones(2), 1.0),
        TypeError,
        "idx has dtype float32",
    ),
    (
        "update nan",
        lambda b: b.update_weights(torch.tensor([0, 1]), torch.tensor([0.0, NAN])),
        ValueError,
        "weight 1",
    ),
    (
        "update count",
        lambda b: b.update_weights(torch.tensor([0]), torch.ones(2)),
        ValueError,
        "w has 2 entries for 1 indices",
    ),
    (
        "update one for two",
        lambda b: b.update_weights(torch.tensor([0, 1]), torch.ones(1)),
        ValueError,
        "w has 1 entries for 2 indices",
    ),
    (
        "update none",
        lambda b: b.update_weights(torch.tensor([0]), None),
        TypeError,
        "w is of type NoneType; pass a number, a torch.Tensor or a numpy.ndarray",
    ),
    ("update list", lambda b: b.update_weights(torch.tensor([0]), [1.0]), TypeError, "w is of"),
    ("draw negative", lambda b: b.draw(-1), ValueError, "n is -1; it must not be negative"),
    ("draw float", lambda b: b.draw(2.0), TypeError, "n is 2.0; it must be an int"),
    ("uniform negative", lambda b: b.draw_uniform(-2), ValueError, "n is -2"),
    ("weights at", lambda b: b.weights_at(torch.tensor([0, 5])), IndexError, "idx[1] is 5"),
    ("gather low", lambda b: b.gather(torch.tensor([-1])), IndexError, "idx[0] is -1"),
    ("gather high", lambda b: b.gather(torch.tensor([4, 7])), IndexError, "idx[1] is 7"),
    (
        "gather out",
        lambda b: b.gather(torch.tensor([1]), out=rows(2)),
        ValueError,
        "it must be [1, 3]",
    ),
    (
        "gather out double",
        lambda b: b.gather(torch.tensor([1]), out=rows(1).double()),
        TypeError,
        "out has dtype",
    ),
    ("sample out", lambda b: b.sample(3, out=rows(2)), ValueError, "out has shape (2, 3)"),
    ("draw too many", lambda b: b.draw(2**64), ValueError, "n is 18446744073709551616; it must be"),
    ("draw a word", lambda b: b.draw(2, "yes"), TypeError, "stratified is 'yes'; it must be True"),
    ("set a word", lambda b: b.set_weights(torch.ones(5), allow_newer=1), TypeError, "newer is 1;"),
    (
        "append off the words",
        lambda b: b.append(torch.frombuffer(bytearray(13), dtype=torch.float32, offset=1)[None]),
        ValueError,
        "rows begins at an address that is no multiple of the 4 bytes of its float32",
    ),
    (
        "set off the words",
        lambda b: b.set_weights(np.frombuffer(bytearray(44), np.float64, offset=4)),
        ValueError,
        "w begins at an address that is no multiple of the 8 bytes of its float64",
    ),
    (
        "gather into itself",
        lambda b: b.gather(torch.tensor([1]), out=b.rows[2:3]),
        ValueError,
        "out is a view of the buffer's own rows",
    ),
    ("newest", lambda b: b.newest(6), ValueError, "n is 6; the buffer holds only 5 rows"),
    ("newest indices", lambda b: b.newest_indices(-1), ValueError, "n is -1"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_failed_call_explains_itself_and_changes_nothing(
    call: Call, error: type[Exception], message: str
) -> None:
    buffer = ReplayBuffer(capacity=8, width=3)
    buffer.append(torch.arange(15.0).reshape(5, 3), torch.arange(5.0))
    before = buffer.state_dict()
    with pytest.raises(error, match=re.escape(message)):
        call(buffer)
    for name, value in buffer.state_dict().items():
        assert torch.equal(value, before[name]), name


def freed() -> torch.Tensor:
    x = rows(4)
    x.untyped_storage().resize_(0)
    return x


def freed_view() -> torch.Tensor:
    x = rows(4)
    view = x[1:]
    x.untyped_storage().resize_(0)
    return view


def fake() -> torch.Tensor:
    with FakeTensorMode():
        return rows(4)


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize(
    "make",
    [
        freed,
        freed_view,
        fake,
        lambda: torch._efficientzerotensor((4, 3)),
        lambda: torch._efficientzerotensor((4, 3))[1:],
        lambda: masked_tensor(rows(4), rows(4) > 0),
    ],
)
def test_a_tensor_without_memory_is_refused(make: Callable[[], torch.Tensor]) -> None:
    """The storage's null pointer, or for a view its offset, must not be followed."""
    buffer = ReplayBuffer(capacity=8, width=3)
    buffer.append(rows(5))
    x = make()
    with pytest.raises(ValueError, match="rows has no plain memory"):
        buffer.append(x)
    with pytest.raises(ValueError, match="out has no plain memory"):
        buffer.gather(torch.zeros(len(x), dtype=torch.int64), out=x)
    assert buffer.total_appended == 5


def test_a_tensor_inside_vmap_is_refused() -> None:
    buffer = ReplayBuffer(capacity=8, width=3)
    with pytest.raises(ValueError, match=r"rows has no plain memory \(it is .* torch.func's\)"):
        torch.vmap(lambda x: x * buffer.append(x))(torch.zeros(2, 4, 3))
    assert buffer.total_appended == 0


def test_indices_without_memory_are_refused() -> None:
    buffer = ReplayBuffer(capacity=8, width=3)
    buffer.append(rows(5))
    idx = torch.tensor([1, 2])
    idx.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="idx has no plain memory"):
        buffer.gather(idx)
    empty = torch.empty(0, dtype=torch.int64)
    empty.untyped_storage().resize_(0)
    assert buffer.gather(empty).shape == (0, 3)


def test_drawing_from_nothing() -> None:
    buffer = ReplayBuffer(capacity=8, width=3)
    for draw in (buffer.draw, buffer.draw_uniform, buffer.sample, buffer.sample_uniform):
        with pytest.raises(RuntimeError, match="empty buffer; append rows first"):
            draw(1)
    buffer.append(rows(), 0.0)
    for draw in (buffer.draw, buffer.sample):
        with pytest.raises(RuntimeError, match="weights of all 2 rows sum to 0"):
            draw(1)
    assert buffer.state_dict()["calls"] == 0
    assert len(buffer.draw_uniform(4)) == 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"capacity": torch.tensor(9)}, ValueError, "capacity 9; this buffer has capacity 8"),
        ({"width": torch.tensor(2)}, ValueError, "width 2; this buffer has width 3"),
        ({"version": torch.tensor(7)}, ValueError, "version 7"),
        ({"seed": torch.tensor(1.0)}, TypeError, "seed is"),
        ({"calls": torch.tensor([1])}, TypeError, "calls is"),
        ({"calls": torch.tensor(-1)}, ValueError, "calls is -1"),
        ({"calls": torch.tensor(2**63 - 1)}, ValueError, "calls is 9223372036854775807"),
        ({"total_appended": torch.tensor(2**62 - 1)}, ValueError, "total_appended is 46116"),
        ({"total_appended": torch.tensor(4)}, ValueError, "5 rows and 5 weights, but 4 rows"),
        ({"rows": torch.ones(5, 2)}, ValueError, "it must be [n, 3]"),
        ({"rows": torch.ones(4, 3)}, ValueError, "5 entries for 4"),
        ({"weights": torch.ones(1)}, ValueError, "weights has 1 entries for 5 rows"),
        ({"weights": 1.0}, ValueError, "5 rows and 1 weights"),
        ({"weights": None}, TypeError, "weights is of type NoneType"),
        ({"weights": torch.tensor([1.0, 1, 1, NAN, 1])}, ValueError, "weight 3 is nan"),
        ({"extra": torch.tensor(1)}, KeyError, "extra"),
    ],
)
def test_a_bad_state(change: dict[str, Any], error: type[Exception], message: str) -> None:
    buffer = ReplayBuffer(capacity=8, width=3)
    buffer.append(torch.arange(15.0).reshape(5, 3))
    before = buffer.state_dict()
    with pytest.raises(error, match=re.escape(message)):
        buffer.load_state_dict({**before, **change})
    for name, value in buffer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_state_with_a_missing_entry() -> None:
    buffer = ReplayBuffer(capacity=8, width=3)
    with pytest.raises(TypeError, match="the state is a list; it must be a dict"):
        buffer.load_state_dict([])  # type: ignore[arg-type]
    state = buffer.state_dict()
    del state["rows"]
    with pytest.raises(KeyError, match="the state has entries"):
        buffer.load_state_dict(state)
