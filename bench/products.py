"""The bare matrix products of each kind of work: what no program that makes them can beat by much.

In the shapes they have, each on memory of its own that stays in the caches. `aten` makes them as
`torch.bmm` does, `own` with the kernels that the operators use; both take a narrow result the
faster way round.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Call = Callable[[], object]
Product = Callable[[Tensor, Tensor], Tensor]
"""[M, m, k] times [M, k, n]."""


def own(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.tom_tests.member_product(a.unsqueeze(0), b.unsqueeze(0))


def aten(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(t(b), t(a)) if b.shape[2] < 16 else torch.bmm(a, b)


def t(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


PRODUCTS: dict[str, Product] = {"bare products, own kernels": own, "bare products, bmm": aten}


def forward(product: Product, members: int, rows: int, sizes: list[int], at_once: int) -> Call:
    """A stack's forward pass on `rows` rows, `at_once` of them at a time."""
    x = [torch.randn(members, min(rows, at_once), n) for n in sizes]
    w = [torch.randn(members, i, o) for i, o in pairwise(sizes)]

    def run() -> None:
        for _ in range(0, rows, at_once):
            for layer, weight in enumerate(w):
                product(x[layer], weight)

    return run


def step(product: Product, members: int, rows: int, sizes: list[int]) -> Call:
    """Forward and backward of a stack, without the gradient of its input."""
    x = [torch.randn(members, rows, n) for n in sizes]
    w = [torch.randn(members, i, o) for i, o in pairwise(sizes)]

    def run() -> None:
        for layer, weight in enumerate(w):
            product(x[layer], weight)
            product(t(x[layer]), x[layer + 1])
            if layer > 0 and x[layer + 1].shape[2] > 1:
                product(x[layer + 1], t(weight))

    return run


def sac_update(product: Product) -> Call:
    """Hopper's sizes, batch 256."""
    r = torch.randn
    x, w1, w3 = r(1, 512, 11), r(1, 11, 256), r(1, 256, 6)  # the actor on s and s'
    h, square, grad = r(1, 512, 256), r(1, 256, 256), r(1, 256, 6)
    cx, c1, c2, c3 = r(2, 256, 14), r(2, 14, 256), r(2, 256, 256), r(2, 256, 1)
    ch, cg = r(2, 256, 256), r(2, 256, 1)
    ax, ah = x[:, :256], h[:, :256]

    def run() -> None:
        product(x, w1), product(h, square), product(h, w3)
        for _ in range(3):  # target on s', critics on (s, a), critics on the new action
            product(cx, c1), product(ch, c2), product(ch, c3)
        product(t(ch), cg), product(t(ch), ch), product(ch, t(c2)), product(t(cx), ch)  # critics
        product(ch, t(c2)), product(ch, t(c1[:, -3:]))  # to the action
        product(t(ah), grad), product(grad, t(w3))  # the actor, on s alone
        product(t(ah), ah), product(ah, t(square)), product(t(ax), ah)

    return run


def discriminator_step(product: Product) -> Call:
    """With the gradient penalty, Hopper's sizes."""
    both = step(product, 1, 512, [25, 256, 256, 1])
    x, h, w1, w2 = (torch.randn(1, *s) for s in [(256, 25), (256, 256), (25, 256), (256, 256)])

    def run() -> None:
        both()
        product(x, w1), product(h, w2), product(h, t(w2)), product(h, t(w1))  # forward and slope
        product(x, w1), product(t(x), h), product(t(h), h), product(h, w2)  # back through the slope
        product(t(h), h), product(h, t(w2)), product(t(x), h)  # back through the network

    return run
