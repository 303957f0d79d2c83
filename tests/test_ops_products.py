"""The products of stacks against torch.matmul, for every path through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ops_cases import assert_near, assert_same_bits, number_of_threads

product = torch.ops.tom_tests.member_product

OWN_BFLOAT16 = pytest.param(
    torch.bfloat16,
    marks=pytest.mark.skipif(
        not torch.cpu._is_avx512_bf16_supported(), reason="the processor lacks AVX512-BF16"
    ),
)


@pytest.fixture(params=[True, False], ids=["own", "ATen's"])
def _own(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.ops.tom_tests.use_blocked_products(request.param)
    yield
    torch.ops.tom_tests.use_blocked_products(before)


def factors(
    shape: tuple[int, int, int, int, int], turned: tuple[bool, bool], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Random a [S, M, m, k] and b [S, M, k, n]; a turned one is a transposed view."""
    seeds, members, m, k, n = shape
    torch.manual_seed(sum(shape))

    def made(rows: int, columns: int, turn: bool) -> Tensor:
        size = (columns, rows) if turn else (rows, columns)
        made = torch.randn(seeds, members, *size, dtype=dtype)
        return made.transpose(2, 3) if turn else made

    return made(m, k, turned[0]), made(k, n, turned[1])


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
def test_products_equal_matmul(turned: tuple[bool, bool], dtype: torch.dtype) -> None:
    # Rows and columns around the sizes of tiles, depths around that of a panel, and the shapes of
    # these networks: 1 column, an outer product, more rows than one task takes.
    for m, k, n in [(1, 1, 1), (25, 257, 33), (256, 14, 256), (12, 600, 15), (70, 256, 1)]:
        a, b = factors((2, 3, m, k, n), turned, dtype)
        assert_near(product(a, b), a @ b)
    a, b = factors((1, 1, 1100, 40, 50), turned, dtype)
    assert_near(product(a, b), a @ b)


def any_shape(test: Callable[..., None]) -> Callable[..., None]:
    """Small factors of every shape, empty ones too, as they are and turned."""
    turned = st.tuples(st.booleans(), st.booleans())
    sizes = {"m": st.integers(0, 60), "k": st.integers(0, 40), "n": st.integers(0, 80)}
    return settings(max_examples=100, deadline=None)(given(**sizes, turned=turned)(test))


@any_shape
def test_products_of_any_shape_equal_matmul(
    m: int, k: int, n: int, turned: tuple[bool, bool]
) -> None:
    a, b = factors((1, 2, m, k, n), turned, torch.float64)
    assert_near(product(a, b), a @ b)


@pytest.mark.usefixtures("_own")
def test_a_factor_shared_by_the_members_of_a_seed() -> None:
    a, b = factors((3, 4, 20, 30, 40), (False, False), torch.float64)
    assert_near(product(a[:, :1], b), a[:, :1] @ b)
    assert_near(product(a, b[:, :1]), a @ b[:, :1])


@pytest.mark.usefixtures("_own")
def test_slices_of_longer_rows() -> None:
    a, b = factors((2, 2, 40, 50, 60), (False, False), torch.float64)
    assert_near(product(a[..., 3:20], b[:, :, 3:20, 7:]), a[..., 3:20] @ b[:, :, 3:20, 7:])
    assert_near(product(a[..., ::2], b[:, :, ::2]), a[..., ::2] @ b[:, :, ::2])


def test_nothing_is_hidden_by_zeros() -> None:
    """Padding adds no rows or columns: a NaN stays where it belongs."""
    a, b = factors((1, 1, 30, 20, 40), (False, False), torch.float32)
    a[0, 0, 7, 3], b[0, 0, 5, 11] = torch.nan, torch.inf
    found, expected = product(a, b), a @ b
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.isinf(), expected.isinf())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, OWN_BFLOAT16])
def test_same_bits_for_every_number_of_threads(dtype: torch.dtype) -> None:
    for shape in [(1, 1, 1100, 300, 70), (2, 7, 64, 200, 24), (1, 2, 256, 256, 1)]:
        a, b = factors(shape, (False, False), dtype)
        results = []
        for threads in [1, 2, 3, 4]:
            with number_of_threads(threads):
                results.append(product(a, b))
        for result in results[1:]:
            assert_same_bits(result, results[0])


def assert_rounded_product(a: Tensor, b: Tensor) -> None:
    """The product of bfloat16 factors is theirs in float64, rounded to bfloat16.

    Sums in float32 differ from those in float64 by far less than bfloat16's last digit, so that
    only the few that lie next to the middle of two neighbours are rounded the other way.
    """
    found, exact = product(a, b), a.double() @ b.double()
    assert found.dtype == torch.bfloat16
    assert found.shape == exact.shape
    error = (found.double() - exact).abs()
    assert torch.all(error <= 2**-8 * exact.abs() + 1e-6 * (a.double().abs() @ b.double().abs()))
    assert (found != exact.bfloat16()).sum() <= 2 + 0.01 * found.numel()


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
def test_products_of_bfloat16_are_summed_in_float32(turned: tuple[bool, bool]) -> None:
    # Odd and even depths, which are packed in different ways, and one of several parts.
    for m, k, n in [(1, 1, 1), (25, 257, 33), (256, 14, 256), (12, 1300, 15), (70, 256, 4)]:
        a, b = factors((2, 3, m, k, n), turned, torch.bfloat16)
        assert_rounded_product(a, b)
        if k > 1 and not turned[0]:
            assert_rounded_product(a[..., 1:], b[:, :, 1:])


@any_shape
def test_products_of_bfloat16_of_any_shape(
    m: int, k: int, n: int, turned: tuple[bool, bool]
) -> None:
    a, b = factors((1, 2, m, k, n), turned, torch.bfloat16)
    assert_rounded_product(a, b)


def test_arguments_that_do_not_fit_are_refused() -> None:
    a = torch.zeros(1, 2, 3, 4)
    for b in (torch.zeros(1, 2, 5, 6), torch.zeros(1, 3, 4, 6), torch.zeros(4, 6), a.double()):
        with pytest.raises(ValueError, match="member_product: got"):
            product(a, b)
    with pytest.raises(ValueError, match="with M >= 1"):
        product(a[:, :1], torch.zeros(1, 0, 4, 6))
