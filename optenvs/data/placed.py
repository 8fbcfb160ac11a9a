"""A data set as tensors on a device, made once for each device, type and standardisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .base import Dataset, divisor

STANDARDISE = ("none", "scalar", "channel", "feature")


@dataclass(frozen=True, eq=False)
class Tensors:
    """The four arrays of a :class:`Dataset` as tensors; shared by all who ask, so never written to.

    Attributes:
        train_x: Inputs ``(n, *shape)``.
        train_y: Class numbers, int64 ``(n,)``.
        test_x: As ``train_x``, of the test part.
        test_y: As ``train_y``, of the test part.
        zero: What an input of zeros (a black image) has become, broadcast against ``shape``.
    """

    train_x: Float[Tensor, "n ..."]
    train_y: Int64[Tensor, "n"]
    test_x: Float[Tensor, "m ..."]
    test_y: Int64[Tensor, "m"]
    zero: Float[Tensor, "..."]


def tensors(
    dataset: Dataset,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    standardise: str = "none",
) -> Tensors:
    """The data set on ``device``, kept there for the next caller.

    Args:
        dataset: What :func:`optenvs.data.load` returned.
        device: Where the tensors go.
        dtype: Floating type of the inputs.
        standardise: ``"none"``; ``"scalar"``: one mean and one standard deviation of all training
            pixels; ``"channel"``: one of each for a channel (first dimension of ``shape``);
            ``"feature"``: one of each for an input. The training statistics serve both parts; an
            input that never varies is only centred.
    """
    if standardise not in STANDARDISE:
        raise ValueError(f"standardise: expected one of {STANDARDISE}, got {standardise!r}")
    # "cuda" and "cuda:0" are one place.
    return _tensors(dataset, torch.empty(0, device=device).device, dtype, standardise)


@lru_cache(maxsize=8)
def _tensors(dataset: Dataset, device: torch.device, dtype: torch.dtype, standardise: str) -> Tensors:
    mean, std = statistics(dataset, standardise)

    def inputs(x: np.ndarray) -> Tensor:
        if standardise == "none":
            return torch.tensor(x, dtype=dtype, device=device)
        scaled = ((x - mean) / std).astype(np.float32 if dtype != torch.float64 else np.float64)
        return torch.tensor(scaled, dtype=dtype, device=device)

    # A tensor made in inference mode could never be saved for a backward pass, and this one stays.
    with torch.inference_mode(False):
        return Tensors(
            inputs(dataset.train_x),
            torch.tensor(dataset.train_y, device=device),
            inputs(dataset.test_x),
            torch.tensor(dataset.test_y, device=device),
            inputs(np.zeros_like(mean, dtype=np.float32)),
        )


def statistics(dataset: Dataset, standardise: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the training inputs, float64, broadcast against ``shape``."""
    x = dataset.train_x
    if standardise == "none":
        return np.zeros(()), np.ones(())
    if standardise == "scalar":
        axes: tuple[int, ...] = tuple(range(x.ndim))
    elif standardise == "channel":
        axes = (0, *range(2, x.ndim))
    else:
        axes = (0,)
    mean = x.mean(axes, dtype=np.float64, keepdims=True)[0]
    std = x.std(axes, dtype=np.float64, keepdims=True)[0]
    return mean, divisor(mean, std)
