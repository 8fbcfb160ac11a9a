"""Logistic regression on the unit sphere under linear equations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from optenvs.core.given import check_whole
from optenvs.core.linear import times
from optenvs.core.random import Keys, normal, uniform
from optenvs.core.struct import struct
from optenvs.data import load

from .base import Constrained
from .given import arrays, consistent
from .parts import Draw

REAL = ("breast_cancer", "ionosphere", "mushroom", "pima", "sonar")
"""Packaged sets of two classes."""
_NOISE = 0.5
_TRIES = 16
"""Draws of the equations, of which the first feasible one is taken."""


@struct
class Regression:
    """A program's own data: equations A x = b, and signed samples where they are not shared.

    ``A`` is ``(B, p, n)``, ``b`` ``(B, p)``, ``samples`` ``(B, N, n)``: y_i a_i, or ``None``.
    """

    A: Float[Tensor, "B p n"]
    b: Float[Tensor, "B p"]
    samples: Float[Tensor, "B N n"] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class ConstrainedLogistic(Constrained):
    """Minimise mean_i log(1 + exp(-y_i a_i'x)) subject to A x = b and |x|^2 = 1.

    The problem of Hong, Na, Mahoney and Kolar (2023, section 5.2), without intercept or regularisation. A and
    b are standard normal, drawn for each instance until |A^+ b| < ``room``: from 1 on the equations miss the
    sphere. Where 16 draws do not suffice, b is shrunk to half of that length, and the metric ``shrunk`` is 1.
    Start and multipliers are all ones.

    Synthetic samples are drawn for each instance: features uniform on (-1, 1), labels sign(a'w + noise / 2)
    with standard normal w and noise.

    Args:
        data: ``synthetic``; a packaged set of two classes, whole: ``breast_cancer``, ``ionosphere``,
            ``mushroom``, ``pima``, ``sonar``; or a dict of arrays, shared by all instances: ``features``
            (N, n), ``labels`` (N,) of two values, of which the larger becomes +1 and the other -1 (LIBSVM's
            mushrooms have 1 and 2, its phishing 0 and 1), and where wanted ``A`` (p, n) and ``b`` (p,).
            A file of LIBSVM's is read by ``optenvs.data.load("libsvm", file=...)``.
        samples: the number N of synthetic samples.
        dim: the number n of synthetic features.
        rows: the number p of linear equations, below n.
        room: the largest |A^+ b| with which b is kept, in (0, 1].
        start, start_multipliers, nan, tolerance, ...: see :class:`optenvs.envs.constrained.base.Constrained`.

    Raises:
        ValueError: data of other shapes, labels of more than two values, or equations that no point of the
            sphere satisfies.
        optenvs.data.MissingData: the package of a real set is not there.
    """

    data: Any = "synthetic"
    samples: int = 351
    dim: int = 34
    rows: int = 10
    room: float = 0.95

    meanings = {  # noqa: RUF012, the base's says what it is
        "shrunk": "1 where no draw of b was short enough, so that it was shrunk",
    }

    def __post_init__(self) -> None:
        if isinstance(self.data, Mapping):
            self._check_given()
        elif self.data not in ("synthetic", *REAL):
            known = ", ".join(("synthetic", *REAL))
            raise ValueError(f"data: expected one of {known}, or a dict of arrays, got {self.data!r}")
        if self.data != "synthetic" and (self.samples, self.dim) != (351, 34):
            raise ValueError("samples, dim: would have no effect beside real data, expected data='synthetic'")
        for name, least in (("samples", 1), ("dim", 2), ("rows", 0)):
            check_whole(name, getattr(self, name), least)
        if self.rows >= self.size:
            raise ValueError(f"rows: expected fewer than the {self.size} variables, got {self.rows}")
        if not 0 < self.room <= 1:
            raise ValueError(f"room: expected a number in (0, 1], got {self.room!r}")
        super().__post_init__()

    def _check_given(self) -> None:
        given = self._given_arrays
        F, labels = given["features"], given["labels"]
        if F.ndim != 2 or labels.shape != F.shape[:1] or not F.numel():
            came = f"{tuple(F.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"data: features, labels: expected shapes (N, n) and (N,), got {came}")
        if len(labels.unique()) > 2:
            raise ValueError(f"data: labels: expected two values, got {len(labels.unique())}")
        if ("A" in given) != ("b" in given):
            raise ValueError("data: A, b: expected both or none")
        if "A" not in given:
            return
        A, b = given["A"], given["b"]
        if A.ndim != 2 or A.shape[1] != F.shape[1] or b.shape != A.shape[:1]:
            came = f"{tuple(A.shape)} and {tuple(b.shape)}"
            raise ValueError(f"data: A, b: expected shapes (p, {F.shape[1]}) and (p,), got {came}")
        if (self.rows, self.room) != (10, 0.95):
            raise ValueError("rows, room: would have no effect beside A and b in data=")
        consistent("data: A, b", A, b)
        length = float(torch.linalg.vector_norm(torch.linalg.pinv(A) @ b))
        if length > 1:
            raise ValueError(f"data: A, b: the least x with A x = b is {length:.4g} long, beyond the sphere")

    @cached_property
    def _given_arrays(self) -> dict[str, Tensor]:
        return arrays("data", self.data, ("features", "labels"), ("A", "b"))

    @property
    def _fixed(self) -> bool:
        """Whether the equations are given."""
        return isinstance(self.data, Mapping) and "A" in self._given_arrays

    @cached_property
    def _table(self) -> Float[Tensor, "N n"] | None:
        """The signed samples y_i a_i that all instances have, on the host; ``None`` of synthetic ones."""
        if self.data == "synthetic":
            return None
        if isinstance(self.data, Mapping):
            features, labels = self._given_arrays["features"], self._given_arrays["labels"]
            return features * torch.where(labels == labels.max(), 1.0, -1.0).unsqueeze(-1)
        real = load(self.data)
        features = torch.from_numpy(np.concatenate((real.train_x, real.test_x))).to(torch.float64)
        labels = torch.from_numpy(np.concatenate((real.train_y, real.test_y)))
        return features * (2 * labels - 1).unsqueeze(-1)

    @cached_property
    def _shared(self) -> Float[Tensor, "N n"] | None:
        return None if self._table is None else self._table.to(self.torch_device, self.torch_dtype)

    @property
    def size(self) -> int:
        return self.dim if self._table is None else self._table.shape[1]

    @property
    def equality_count(self) -> int:
        return 1 + (len(self._given_arrays["b"]) if self._fixed else self.rows)

    def draw(self, keys: Keys) -> Draw:
        n, dtype = self.size, self.torch_dtype
        if self._fixed:
            given = [self._given_arrays[name].to(keys.device, dtype) for name in ("A", "b")]
            A, b = (part.expand(len(keys), *part.shape) for part in given)
            late = torch.zeros_like(keys, dtype=torch.bool)
        else:
            A, b, late = self._equations(keys)
        samples = None
        if self._shared is None:
            features = uniform(keys, "features", (self.samples, n), dtype=dtype, low=-1.0, high=1.0)
            told = (features @ normal(keys, "w", n, dtype=dtype).unsqueeze(-1)).squeeze(-1)
            told = told + _NOISE * normal(keys, "noise", self.samples, dtype=dtype)
            samples = features * torch.where(told >= 0, 1.0, -1.0).to(dtype).unsqueeze(-1)
        ones = torch.ones(len(keys), n, dtype=dtype, device=keys.device)
        return Draw(
            data=Regression(A=A, b=b, samples=samples),
            start=ones,
            multipliers=torch.ones(len(keys), self.count, dtype=dtype, device=keys.device),
            notes={"shrunk": late.to(dtype)},
        )

    def _equations(self, keys: Keys) -> tuple[Tensor, Tensor, Bool[Tensor, "B"]]:
        """The first feasible draw of A and b, and where none was."""
        shape, double = (self.rows, self.size), torch.float64
        A, b = normal(keys, "A", shape, 0, double), normal(keys, "b", self.rows, 0, double)
        short = _length(A, b) < self.room
        for number in range(1, _TRIES):
            other = normal(keys, "A", shape, number, double), normal(keys, "b", self.rows, number, double)
            A = torch.where(short[:, None, None], A, other[0])
            b = torch.where(short[:, None], b, other[1])
            short = short | (_length(*other) < self.room)
        shrink = torch.where(short, 1.0, self.room / 2 / _length(A, b).clamp_min(self.room))
        return A.to(self.torch_dtype), (b * shrink.unsqueeze(-1)).to(self.torch_dtype), ~short

    def _margins(self, data: Regression, x: Float[Tensor, "B n"]) -> Float[Tensor, "B N"]:
        if self._shared is not None:
            return x @ self._shared.mT
        assert data.samples is not None  # drawn where they are not shared
        return times(data.samples, x)

    def objective(self, data: Regression, x: Tensor) -> Tensor:
        return softplus(-self._margins(data, x)).mean(-1)

    def constraints(self, data: Regression, x: Tensor) -> Tensor:
        linear = times(data.A, x) - data.b
        return torch.cat((linear, x.square().sum(-1, keepdim=True) - 1), -1)

    def objective_slope(self, data: Regression, x: Tensor) -> tuple[Tensor, Tensor]:
        margins = self._margins(data, x)
        pull = -torch.sigmoid(-margins) / margins.shape[-1]
        shared = self._shared
        if shared is not None:
            gradient = pull @ shared
        else:
            assert data.samples is not None
            gradient = (pull.unsqueeze(-2) @ data.samples).squeeze(-2)
        return softplus(-margins).mean(-1), gradient

    def constraint_slopes(self, data: Regression, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.constraints(data, x), torch.cat((data.A, 2 * x.unsqueeze(-2)), -2)

    def lagrangian_hessian(self, data: Regression, x: Tensor, multipliers: Tensor | None) -> Tensor:
        margins = self._margins(data, x)
        bend = torch.sigmoid(margins) * torch.sigmoid(-margins) / margins.shape[-1]
        samples = self._shared if data.samples is None else data.samples
        assert samples is not None
        H = samples.mT @ (bend.unsqueeze(-1) * samples)
        if multipliers is None:
            return H
        own = 2 * multipliers[:, -1, None, None] * torch.eye(self.size, dtype=x.dtype, device=x.device)
        return H + own

    def hessian_product(self, data: Regression, x: Tensor, multipliers: Tensor, vector: Tensor) -> Tensor:
        margins, moved = self._margins(data, x), self._margins(data, vector)
        bent = torch.sigmoid(margins) * torch.sigmoid(-margins) / margins.shape[-1] * moved
        samples = self._shared if data.samples is None else data.samples
        assert samples is not None
        product = (bent.unsqueeze(-2) @ samples).squeeze(-2)
        return product + 2 * multipliers[:, -1:] * vector


def _length(A: Float[Tensor, "B p n"], b: Float[Tensor, "B p"]) -> Float[Tensor, "B"]:
    """|A^+ b|, of matrices of full row rank."""
    factor = torch.linalg.cholesky_ex(A @ A.mT).L
    least = A.mT @ torch.cholesky_solve(b.unsqueeze(-1), factor)
    return torch.linalg.vector_norm(least.squeeze(-1), dim=-1)
