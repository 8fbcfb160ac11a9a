"""Traces of symmetric operators: Hutchinson's with its standard error, and Hutch++."""

from __future__ import annotations

import torch
from torch import Tensor

from optenvs.core.given import check_whole
from optenvs.core.random import Keys, rademacher
from optenvs.core.struct import struct

from .operator import Operator


@struct
class Trace:
    """An estimate of a trace.

    Attributes:
        value: ``(B,)``.
        error: its standard error ``(B,)``, of the sample; of Hutch++ that of the complement's part.
        products: how many products with one vector each instance took, ``(B,)``.
    """

    value: Tensor
    error: Tensor
    products: Tensor


def hutchinson(operator: Operator, keys: Keys, vectors: int = 100) -> Trace:
    """The mean of ``v' H v`` over Rademacher vectors; unbiased.

    Args:
        operator: the matrices.
        keys: ``(B,)``.
        vectors: R, at least 2, or there is no standard error.
    """
    check_whole("vectors", vectors, 2)
    probes = rademacher(keys, "trace", (vectors, operator.size), None, operator.dtype)
    return _of((probes * operator(probes)).sum(-1), vectors)


def hutch_pp(operator: Operator, keys: Keys, vectors: int = 99) -> Trace:
    """Hutch++ (Meyer, Musco, Musco and Woodruff 2021): the sketched range exactly, the rest by Hutchinson.

    Args:
        operator: the matrices.
        keys: ``(B,)``.
        vectors: products to spend, at least 6: a third each for the sketch, its exact trace, and the
            complement.
    """
    check_whole("vectors", vectors, 6)
    third = min(vectors // 3, operator.size)
    sketch = rademacher(keys, "sketch", (third, operator.size), None, operator.dtype)
    frame = torch.linalg.qr(operator(sketch).mT)[0].mT
    exact = (frame * operator(frame)).sum((1, 2))
    left = vectors - 2 * third
    probes = rademacher(keys, "trace", (left, operator.size), None, operator.dtype)
    probes = probes - (probes @ frame.mT) @ frame
    rest = _of((probes * operator(probes)).sum(-1), 2 * third + left)
    return Trace(exact + rest.value, rest.error, rest.products)


def _of(samples: Tensor, products: int) -> Trace:
    """Mean and standard error of ``(B, R)``."""
    error = samples.std(1) / samples.shape[1] ** 0.5
    return Trace(samples.mean(1), error, torch.full_like(error, products, dtype=torch.int64))
