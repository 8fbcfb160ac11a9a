"""Sketch and project, GMRES and MINRES: against one sketch at a time in numpy, and against least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.constrained.gmres import gmres, times
from agents.constrained.minres import begin, minres
from agents.constrained.sketching import Sketches, sketch_and_project
from optenvs.core.random import keys_from_seed, normal, uniform_at

N = 6
KEYS = keys_from_seed(0, 5)
NEVER = torch.zeros(5, dtype=torch.float64)
"""An aim that no row meets."""


def systems(keys: Tensor = KEYS) -> tuple[Tensor, Tensor]:
    A = normal(keys, "A", (N, N), dtype=torch.float64)
    return A, normal(keys, "b", N, dtype=torch.float64)


def picked(A: np.ndarray, key: Tensor, count: int, weights: str, first: int = 0) -> np.ndarray:
    """The rows that Kaczmarz's sketches pick."""
    square = (A**2).sum(-1)
    share = np.cumsum(square if weights == "norms" else square > 0)
    index = torch.arange(first, first + count).unsqueeze(0)
    drawn = uniform_at(key.reshape(1), "sketches", index, torch.float64)[0].numpy()
    return np.searchsorted(share / share[-1], drawn, side="right")


def one_by_one(A: np.ndarray, b: np.ndarray, S: Any, wrong_start: bool = False) -> np.ndarray:
    """The update as it is written, for each sketch ``(N, s)`` in turn."""
    z = np.zeros(len(b))
    for k, s in enumerate(S):
        r = b if wrong_start and k == 0 else A @ z - b
        z = z - A.T @ s @ np.linalg.pinv(s.T @ A @ A.T @ s, rcond=1e-12, hermitian=True) @ s.T @ r
    return z


@pytest.mark.parametrize("chunk", [1, 16, 40])
@pytest.mark.parametrize("weights", ["uniform", "norms"])
@pytest.mark.parametrize("wrong_start", [False, True])
def test_kaczmarz_in_chunks_is_kaczmarz_row_by_row(weights: str, chunk: int, wrong_start: bool) -> None:
    A, b = systems()
    A[1, 2] = 0.0  # a row that must not be picked, and that its b contradicts
    how = Sketches("kaczmarz", weights=weights, chunk=chunk, wrong_start=wrong_start)
    found = sketch_and_project(A, b, torch.zeros_like(b), NEVER, keys=KEYS, cap=40, sketches=how)
    assert found.sketches.tolist() == [40] * 5
    for i in range(5):
        rows = picked(A[i].numpy(), KEYS[i], 40, weights)
        assert not (i == 1 and 2 in rows)
        S = np.eye(N)[rows][:, :, None]
        expected = one_by_one(A[i].numpy(), b[i].numpy(), S, wrong_start)
        np.testing.assert_allclose(found.z[i], expected, rtol=1e-9, atol=1e-12)
        size = np.linalg.norm(A[i].numpy() @ expected - b[i].numpy())
        assert float(found.residual[i]) == pytest.approx(size)


@pytest.mark.parametrize("block", [1, 3])
def test_gaussian_sketches_are_the_update_as_it_is_written(block: int) -> None:
    A, b = systems()
    how = Sketches("gaussian", block=block, chunk=8)
    found = sketch_and_project(A, b, torch.zeros_like(b), NEVER, keys=KEYS, cap=20, sketches=how)
    for i in range(5):
        S = [
            normal(KEYS[i : i + 1], "sketches", (size * block, N), first, torch.float64)[0]
            for first, size in ((0, 8), (8, 8), (16, 4))
        ]
        columns = torch.cat(S).reshape(20, block, N).mT.numpy()
        expected = one_by_one(A[i].numpy(), b[i].numpy(), columns)
        np.testing.assert_allclose(found.z[i], expected, rtol=1e-8, atol=1e-10)


def test_a_block_takes_the_pseudo_inverse() -> None:
    """Rows picked twice, and a matrix of rank 2, make S'AA'S singular."""
    A, b = systems()
    A = A[:, :, :2] @ A[:, :2]
    b = times(A, b)
    how = Sketches("kaczmarz", block=4, chunk=3)
    found = sketch_and_project(A, b, torch.zeros_like(b), NEVER, keys=KEYS, cap=3, sketches=how)
    for i in range(5):
        S = np.eye(N)[picked(A[i].numpy(), KEYS[i], 12, "uniform")].reshape(3, 4, N).transpose(0, 2, 1)
        expected = one_by_one(A[i].numpy(), b[i].numpy(), S)
        np.testing.assert_allclose(found.z[i], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "how",
    [
        Sketches("gaussian", chunk=4),
        Sketches("kaczmarz", chunk=4),
        Sketches("gaussian", block=2, chunk=4),
    ],
)
def test_loops_go_on_and_rows_are_where_they_are(how: Sketches) -> None:
    A, b = systems()
    zero = torch.zeros_like(b)
    whole = sketch_and_project(A, b, zero, NEVER, keys=KEYS, cap=40, sketches=how)
    half = sketch_and_project(A, b, zero, NEVER, keys=KEYS, cap=20, sketches=how)
    rest = sketch_and_project(A, b, half.z, NEVER, keys=KEYS, cap=20, first=half.sketches, sketches=how)
    torch.testing.assert_close(rest.z, whole.z)
    alone = sketch_and_project(A[3:4], b[3:4], zero[3:4], NEVER[:1], keys=KEYS[3:4], cap=40, sketches=how)
    torch.testing.assert_close(alone.z, whole.z[3:4])
    # rows stop at their own aims, when the others go on, and those that are not wanted do not begin
    target = torch.stack([0.5 * row.norm() for row in b])
    target[0] = 0.0
    active = torch.tensor([True, True, False, True, True])
    found = sketch_and_project(A, b, zero, target, keys=KEYS, cap=2000, active=active, sketches=how)
    assert found.sketches[2] == 0
    assert torch.equal(found.z[2], zero[2])
    assert (found.residual[[1, 3, 4]] <= target[[1, 3, 4]]).all()
    assert (found.sketches[[1, 3, 4]] < found.sketches[0]).all()
    for i in (1, 3, 4):
        cap = int(found.sketches[i])
        row = slice(i, i + 1)
        same = sketch_and_project(
            A[row], b[row], zero[row], target[row] * 0, keys=KEYS[row], cap=cap, sketches=how
        )
        torch.testing.assert_close(same.z, found.z[row])


def test_the_error_never_rises() -> None:
    """As it does where the first residual has the wrong sign."""
    A, b = systems()
    solution = torch.linalg.solve(A, b)
    for wrong_start in (False, True):
        how, z = Sketches("kaczmarz", chunk=1, wrong_start=wrong_start), torch.zeros_like(b)
        errors = [(z - solution).norm(dim=-1)]
        for count in range(60):
            first = torch.full_like(KEYS, count)
            now = how if count == 0 else Sketches("kaczmarz", chunk=1)
            z = sketch_and_project(A, b, z, NEVER, keys=KEYS, cap=1, first=first, sketches=now).z
            errors.append((z - solution).norm(dim=-1))
        rises = torch.stack(errors).diff(dim=0) > 1e-12
        assert bool(rises.any()) == wrong_start


def test_a_loop_ends_where_rounding_does_and_at_a_matrix_of_zeros() -> None:
    A, b = (part.float() for part in systems())
    A[0] = 0.0
    how = Sketches("kaczmarz")
    found = sketch_and_project(
        A, b, torch.zeros_like(b), NEVER.float(), keys=KEYS, cap=1_000_000, sketches=how
    )
    assert found.sketches[0] == 0
    assert (found.sketches[1:] < 100_000).all()
    assert (found.residual[1:] < 1e-5 * A[1:].flatten(1).norm(dim=-1) * found.z[1:].norm(dim=-1)).all()


@pytest.mark.parametrize("bad", [{"kind": "sobol"}, {"weights": "none"}, {"block": 0}, {"chunk": 1.5}])
def test_bad_sketches(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected"):
        Sketches(**bad)


# GMRES --------------------------------------------------------------------------------------------


def krylov(A: np.ndarray, r: np.ndarray, count: int) -> np.ndarray:
    """An orthonormal basis of the Krylov space, (N, at most count)."""
    basis: list[np.ndarray] = []
    w = r
    for _ in range(count):
        for _ in range(2):
            for v in basis:
                w = w - (v @ w) * v
        if np.linalg.norm(w) < 1e-10 * np.linalg.norm(r):
            break
        basis.append(w / np.linalg.norm(w))
        w = A @ basis[-1]
    return np.stack(basis, -1)


def test_gmres_is_least_squares_on_the_krylov_space() -> None:
    A, b = systems()
    A[3] = torch.eye(N)  # breaks down after one product
    A[4] = torch.diag(torch.tensor([1.0, 1.0, 2.0, 3.0, 0.0, 0.0]))  # singular: b has no solution
    lengths = torch.tensor([0, 1, 6, 4, 5])
    start = normal(KEYS, "z", N, dtype=torch.float64)
    residual = times(A, start) - b
    step, left = gmres(A, residual, lengths, 6)
    torch.testing.assert_close(left, times(A, start + step) - b)
    assert torch.equal(step[0], torch.zeros(N, dtype=torch.float64))
    for i in range(1, 5):
        V = krylov(A[i].numpy(), residual[i].numpy(), int(lengths[i]))
        image = A[i].numpy() @ V
        y = np.linalg.lstsq(image, -residual[i].numpy(), rcond=1e-10)[0]
        least = np.linalg.norm(image @ y + residual[i].numpy())
        assert float(left[i].norm()) == pytest.approx(least, rel=1e-9, abs=1e-9)
    assert left[2].norm() < 1e-10
    assert left[3].norm() < 1e-12


def test_minres_is_least_squares_on_the_krylov_space_and_says_where_it_ends() -> None:
    A, b = systems()
    A = A + A.mT
    A[3] = torch.eye(N)
    A[4] = torch.diag(torch.tensor([1.0, -1.0, 2.0, 3.0, 0.0, 0.0]))  # b is not in its range
    at, spent = begin(b), torch.zeros(5, dtype=torch.bool)
    for count in range(1, N + 2):
        at = minres(at, times(A, at.vector))
        torch.testing.assert_close(at.residual, b - times(A, at.z))
        for i in range(5):
            V = krylov(A[i].numpy(), b[i].numpy(), count)
            image = A[i].numpy() @ V
            y = np.linalg.lstsq(image, b[i].numpy(), rcond=1e-10)[0]
            least = np.linalg.norm(image @ y - b[i].numpy())
            assert float(at.size[i]) == pytest.approx(least, rel=1e-9, abs=1e-9)
        assert (at.spent >= spent).all()
        spent = at.spent
        assert spent.tolist() == [count >= 6, count >= 6, count >= 6, True, count >= 5]
    assert (at.size[:4] < 1e-10).all()
    assert at.size[4] > 0.1
    assert begin(torch.zeros_like(b)).spent.all()
