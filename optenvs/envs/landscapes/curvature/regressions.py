"""Logistic and softmax regression.

The mean of N losses f_i, plus mu/2 |x|^2. ``exact`` is the Hessian, positive semidefinite as the losses are
convex; ``fisher`` is the mean of gradient(f_i) gradient(f_i)', plus mu I. For logistic regression they differ
by no more than the largest |a_i|^2 times the mean loss (Semenov, Jaggi, Doikov 2025, see :mod:`.base`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from optenvs.core.linear import times
from optenvs.core.random import Keys, normal

from .base import Bend, gram, nothing
from .samples import OfSamples, Table


@dataclass(frozen=True, eq=False, kw_only=True)
class LogisticRegression(OfSamples):
    """The mean of log(1 + exp(-y_i a_i' x)), y_i = -1 or 1, plus mu/2 |x|^2. Episodes begin at 0.

    There is no intercept. The minimum is found by Newton's method; where the samples are separable and mu is
    0 it is 0, at infinity. The minimiser is known with mu > 0.

    Args:
        dim, samples, data, label_noise, mu: see
            :class:`optenvs.envs.landscapes.curvature.samples.OfSamples`; n = 10 by default. Samples are
            standard normal, and so is the linear function whose sign labels them. A data set has two classes,
            of which 1 has the label 1; labels that are given are -1 and 1.
        hessian: ``exact``, ``fisher`` or ``zero``; and the others of
            :class:`optenvs.envs.landscapes.curvature.base.Curved`.
    """

    def settle(self) -> None:
        size = 10 if self._given is None else self._given[0].shape[1]
        if self.dim is None:
            object.__setattr__(self, "dim", size)
        elif self._given is not None and self.dim != size:
            raise ValueError(f"dim: {self.dim!r} does not fit data, which have {size} inputs")

    @property
    def inputs(self) -> int:
        return self.dim

    def label(self, labels: np.ndarray) -> Float[np.ndarray, "N 1"]:
        known, named = np.unique(labels), isinstance(self.data, str)
        if not set(known.tolist()) <= ({0, 1} if named else {-1, 1}):
            what = f"{self.data} of two classes" if named else "labels -1 and 1"
            raise ValueError(f"data: expected {what}, got {', '.join(map(str, known[:5].tolist()))}, ...")
        return (2.0 * labels - 1 if named else labels)[:, None]

    def sampled(self, inputs: Tensor, keys: Keys) -> Tensor:
        weights = normal(keys, "w", self.dim, dtype=torch.float64)
        noise = normal(keys, "label noise", self.samples, dtype=torch.float64)
        size = torch.linalg.vector_norm(weights, dim=-1, keepdim=True)
        outputs = times(inputs, weights) + self.label_noise * size * noise
        return torch.where(outputs < 0, -1.0, 1.0).to(inputs.dtype).unsqueeze(-1)

    def separated(self, x: Tensor, table: Table) -> Tensor:
        return (_margin(x, table) > 0).all(-1)

    def loss(self, x: Tensor, table: Table) -> Tensor:
        return softplus(-_margin(x, table)).mean(-1) + self.mu / 2 * (x * x).sum(-1)

    def slopes(self, x: Tensor, table: Table) -> tuple[Tensor, Tensor]:
        found = self._bend(x, table, "exact")
        return found.gradient, found.hessian()

    def bend(self, x: Tensor, coefficients: Any) -> Bend:
        return self._bend(x, self.told(coefficients), self.hessian)

    def _bend(self, x: Tensor, table: Table, kind: str) -> Bend:
        a, count, y = table.inputs, self.samples, table.targets.squeeze(-1)
        margin = y * times(a, x)
        wrong = torch.sigmoid(-margin)
        weight = wrong * (wrong if kind == "fisher" else 1 - wrong) / count

        def hessian() -> Tensor:
            return regular(self.mu, gram(a, weight))

        def product(vector: Tensor) -> Tensor:
            return times(a.mT, weight * times(a, vector)) + self.mu * vector

        return Bend(
            value=softplus(-margin).mean(-1) + self.mu / 2 * (x * x).sum(-1),
            gradient=self.mu * x - times(a.mT, y * wrong) / count,
            hessian=(lambda: nothing(x)) if kind == "zero" else hessian,
            product=torch.zeros_like if kind == "zero" else product,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftmaxRegression(OfSamples):
    """The mean of -log softmax(W a_i) at the class of a_i, plus mu/2 |W|^2. Episodes begin at 0.

    A point is the matrix W ``(C, d)``, row by row: n = C d. There is no intercept. Rows that move together
    change no loss, so that the exact Hessian is singular without mu. The minimum is found by Newton's method;
    where the samples are separable and mu is 0 it is 0, at infinity. The minimiser is known with mu > 0.

    Args:
        classes: C; 3 by default, or that of the data.
        features: d; 5 by default, or that of the data.
        dim, samples, data, label_noise, mu: see
            :class:`optenvs.envs.landscapes.curvature.samples.OfSamples`. Samples are standard normal, and
            so are the linear functions of which the largest labels them. Labels that are given are 0 to
            C - 1.
        hessian: ``exact``, ``fisher`` or ``zero``; and the others of
            :class:`optenvs.envs.landscapes.curvature.base.Curved`.
    """

    classes: int = None  # type: ignore[assignment]  # filled in by settle
    features: int = None  # type: ignore[assignment]

    def settle(self) -> None:
        known = {"classes": 3, "features": 5}
        if self._given is not None:
            inputs, labels = self._given
            known = {"classes": max(int(labels.max()) + 1, 2), "features": inputs.shape[1]}
        for name, size in known.items():
            told = getattr(self, name)
            if told is None:
                object.__setattr__(self, name, size)
                continue
            few = 2 if name == "classes" else 1
            if isinstance(told, bool) or not isinstance(told, int) or told < few:
                raise ValueError(f"{name}: expected a whole number >= {few}, got {told!r}")
            if self._given is not None and told != size:
                raise ValueError(f"{name}: {told!r} does not fit data, which have {size}")
        whole = self.classes * self.features
        if self.dim not in (None, whole):
            raise ValueError(f"dim: expected classes * features = {whole}, or None, got {self.dim!r}")
        object.__setattr__(self, "dim", whole)

    @property
    def inputs(self) -> int:
        return self.features

    def label(self, labels: np.ndarray) -> Float[np.ndarray, "N C"]:
        if (labels < 0).any() or (labels != labels.astype(int)).any():
            odd = next(v for v in labels.tolist() if v < 0 or v != int(v))
            raise ValueError(f"data: expected labels 0, 1, ..., got {odd}")
        there = set(labels.astype(int).tolist())
        if absent := sorted(set(range(self.classes)) - there) if len(there) > 1 else []:
            raise ValueError(
                f"data: expected labels 0, 1, ..., all of them, got none of class {absent[0]} among 0 to "
                f"{self.classes - 1}"
            )
        return np.eye(self.classes)[labels.astype(int)]

    def sampled(self, inputs: Tensor, keys: Keys) -> Tensor:
        weights = normal(keys, "W", (self.classes, self.features), dtype=torch.float64)
        noise = normal(keys, "label noise", (self.samples, self.classes), dtype=torch.float64)
        size = torch.linalg.vector_norm(weights, dim=-1).unsqueeze(-2)
        outputs = inputs @ weights.mT + self.label_noise * size * noise
        return one_hot(outputs.argmax(-1), self.classes).to(inputs.dtype)

    def _matrix(self, x: Float[Tensor, "... n"]) -> Float[Tensor, "... C d"]:
        return x.unflatten(-1, (self.classes, self.features))

    def separated(self, x: Tensor, table: Table) -> Tensor:
        outputs = table.inputs @ self._matrix(x).mT
        others = (outputs - torch.where(table.targets > 0, torch.inf, 0.0)).amax(-1)
        return ((outputs * table.targets).sum(-1) > others).all(-1)

    def loss(self, x: Tensor, table: Table) -> Tensor:
        return self._loss(x, table.inputs @ self._matrix(x).mT, table)

    def _loss(self, x: Tensor, outputs: Tensor, table: Table) -> Tensor:
        own = (outputs * table.targets).sum(-1)
        return (torch.logsumexp(outputs, -1) - own).mean(-1) + self.mu / 2 * (x * x).sum(-1)

    def slopes(self, x: Tensor, table: Table) -> tuple[Tensor, Tensor]:
        found = self._bend(x, table, "exact")
        return found.gradient, found.hessian()

    def bend(self, x: Tensor, coefficients: Any) -> Bend:
        return self._bend(x, self.told(coefficients), self.hessian)

    def _bend(self, x: Tensor, table: Table, kind: str) -> Bend:
        a, count = table.inputs, self.samples
        outputs = a @ self._matrix(x).mT
        chance = torch.softmax(outputs, -1)
        wrong = chance - table.targets

        def hessian() -> Tensor:
            if kind == "fisher":
                rows = _spread(wrong, a)
                return regular(self.mu, rows.mT @ rows / count)
            rows = _spread(chance, a)
            # in the block of a class, its own chances besides
            blocks = (chance.mT.unsqueeze(-1) * a.unsqueeze(-3)).mT @ a.unsqueeze(-3)
            eye = torch.eye(self.classes, dtype=x.dtype, device=x.device)
            whole = eye[:, None, :, None] * blocks.unsqueeze(-2)
            return regular(self.mu, (whole.flatten(-4, -3).flatten(-2, -1) - rows.mT @ rows) / count)

        def product(vector: Tensor) -> Tensor:
            moved = a @ self._matrix(vector).mT
            if kind == "fisher":
                bent = wrong * (wrong * moved).sum(-1, keepdim=True)
            else:
                bent = chance * (moved - (chance * moved).sum(-1, keepdim=True))
            return (bent.mT @ a).flatten(-2) / count + self.mu * vector

        return Bend(
            value=self._loss(x, outputs, table),
            gradient=(wrong.mT @ a).flatten(-2) / count + self.mu * x,
            hessian=(lambda: nothing(x)) if kind == "zero" else hessian,
            product=torch.zeros_like if kind == "zero" else product,
        )


def _margin(x: Float[Tensor, "... n"], table: Table) -> Float[Tensor, "... N"]:
    return table.targets.squeeze(-1) * times(table.inputs, x)


def _spread(outputs: Float[Tensor, "B N C"], inputs: Float[Tensor, "... N d"]) -> Float[Tensor, "B N Cd"]:
    """The outer product of outputs and inputs of each sample."""
    return (outputs.unsqueeze(-1) * inputs.unsqueeze(-2)).flatten(-2)


def regular(mu: float, matrix: Float[Tensor, "B n n"]) -> Float[Tensor, "B n n"]:
    """The matrix plus mu I."""
    return matrix + mu * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
