"""The squared hinge by Newton's method: rows that do not see each other, and what fails in one of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optenvs.core.random import keys_from_seed, normal, uniform
from optenvs.envs.bilevel import hinge
from optenvs.envs.bilevel.hinge import Minimum, Rows, Target


def drawn(batch: int, count: int, dim: int, low: float = -4.0) -> tuple[Tensor, Tensor]:
    """Rows s (a, 1) of overlapping classes, and weights."""
    keys = keys_from_seed(1, batch)
    signs = torch.where(uniform(keys, "s", count, dtype=torch.float64) < 0.5, -1.0, 1.0).double()
    inputs = normal(keys, "a", (count, dim), dtype=torch.float64)
    inputs = inputs + 0.5 * signs.unsqueeze(-1)
    signed = torch.cat((inputs * signs.unsqueeze(-1), signs.unsqueeze(-1)), -1)
    return signed, uniform(keys, "c", count, dtype=torch.float64, low=low, high=2.0).exp()


def solved(signed: Tensor, weights: Tensor, ridge: float = 0.0, gram: bool = False) -> Minimum:
    centre = torch.zeros_like(signed[:, 0])
    rows = Rows(signed, signed[..., :-1] @ signed[..., :-1].mT if gram else None)
    return hinge.minimise(rows, Target(weights, torch.ones_like(weights), centre, ridge))


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize(("count", "dim"), [(40, 5), (6, 12)])
@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_a_row_is_solved_as_it_is_alone(gram: bool, count: int, dim: int, ridge: float) -> None:
    signed, weights = drawn(5, count, dim)
    many = solved(signed, weights, ridge, gram)
    assert many.solved.all()
    for i in (0, 4):
        alone = solved(signed[i : i + 1], weights[i : i + 1], ridge, gram)
        torch.testing.assert_close(alone.t[0], many.t[i], rtol=1e-12, atol=1e-12)
        assert alone.steps[0] == many.steps[i]


def test_both_forms_of_the_system_give_the_same() -> None:
    signed, weights = drawn(3, 30, 8)
    for ridge in (0.0, 1.0):
        one, other = solved(signed, weights, ridge), solved(signed, weights, ridge, gram=True)
        torch.testing.assert_close(one.t, other.t, rtol=1e-10, atol=1e-10)


def test_a_row_that_fails_is_a_flag_of_its_own() -> None:
    signed, weights = drawn(4, 30, 3)
    expected = solved(signed, weights)
    weights, signed = weights.clone(), signed.clone()
    weights[1, 7] = torch.nan
    signed[2, 3, 1] = torch.inf
    found = solved(signed, weights)
    assert found.solved.tolist() == [True, False, False, True]
    for i in (0, 3):
        torch.testing.assert_close(found.t[i], expected.t[i], rtol=0, atol=1e-13)


@pytest.mark.parametrize("gram", [False, True])
def test_no_active_sample_leaves_b_where_it_is(gram: bool) -> None:
    signed, weights = drawn(2, 9, 3)
    centre = torch.tensor([[0.3, -1.0, 2.0, 0.7]]).double().expand(2, -1)
    rows = Rows(signed, signed[..., :-1] @ signed[..., :-1].mT if gram else None)
    found = hinge.minimise(rows, Target(weights, torch.full_like(weights, -1e3), centre, 0.0))
    assert found.solved.all() and torch.equal(found.t, centre) and not found.slack.any()
    # one class alone: w = 0 and a b beyond the margin are the solution
    ones = torch.cat((torch.zeros_like(signed[..., :-1]), torch.ones_like(signed[..., -1:])), -1)
    alone = solved(ones, weights, gram=gram)
    assert alone.solved.all() and not alone.t[:, :-1].any() and (alone.t[:, -1] > 1 - 1e-9).all()


def test_derivatives_are_those_of_the_solution() -> None:
    signed, weights = drawn(1, 25, 4)

    def answer(c: Tensor) -> Tensor:
        return solved(signed, c.exp()).t.sum(-1)

    c = weights.log().requires_grad_()
    (slope,) = torch.autograd.grad(answer(c).sum(), c)
    for i in (0, 7, 20):
        step = torch.zeros_like(weights)
        step[0, i] = 1e-5
        with torch.no_grad():
            difference = (answer(c + step) - answer(c - step)) / 2e-5
        torch.testing.assert_close(slope[:, i], difference, rtol=1e-6, atol=1e-9)


def test_it_composes_with_vmap() -> None:
    signed, weights = drawn(3, 20, 4)
    each = torch.func.vmap(lambda a, e: solved(a.unsqueeze(0), e.unsqueeze(0)).t.squeeze(0))(signed, weights)
    torch.testing.assert_close(each, solved(signed, weights).t, rtol=1e-10, atol=1e-12)
