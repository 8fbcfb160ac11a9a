"""Derivatives are those of closed forms, in every mode; some releases of torch make zeros of them in one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import optenvs
from optenvs.core import keys_from_seed, oracles
from optenvs.core.oracles import (
    gauss_newton,
    hessian,
    hvp,
    jacobian,
    jvp,
    value_and_gradient,
    value_gradient_and_rest,
    vjp,
)
from optenvs.core.tracing import recording

B, N, P, M = 4, 3, 2, 5
G = torch.Generator().manual_seed(0)
X, V = torch.randn(2, B, N, generator=G, dtype=torch.float64)
BLOCK = torch.randn(B, M, N, generator=G, dtype=torch.float64)
Y = torch.randn(B, P, generator=G, dtype=torch.float64)
CO = torch.randn(B, P, generator=G, dtype=torch.float64)
COS = torch.randn(B, M, P, generator=G, dtype=torch.float64)
A = torch.randn(P, N, generator=G, dtype=torch.float64)

# f(x) = sum sin(x_i) (a'x)^2 / 2 for the rows a of A; g(x) = (A x)^3 / 3


def value(x: Tensor) -> Tensor:
    return x.sin().sum(-1) + (x @ A.T).square().sum(-1) / 2


def written(x: Tensor) -> tuple[Tensor, Tensor]:
    return value(x), x.cos() + x @ A.T @ A


def outputs(x: Tensor) -> Tensor:
    return (x @ A.T) ** 3 / 3


def pair(x: Tensor, y: Tensor) -> Tensor:
    return ((x @ A.T) * y.exp()).sum(-1)


def loss(z: Tensor) -> Tensor:
    return z.square().square().sum(-1) / 12


HESSIAN = torch.diag_embed(-X.sin()) + A.T @ A
JACOBIAN = (X @ A.T).square().unsqueeze(-1) * A
CURVATURE = JACOBIAN.mT @ (outputs(X).square().unsqueeze(-1) * JACOBIAN)


def products(matrix: Tensor, block: Tensor) -> Tensor:
    return block @ matrix.mT


CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], tuple[Tensor, ...]]] = {
    "gradient": (lambda x: value_and_gradient(value, x), (X,), written(X)),
    "two arguments": (
        lambda x, y: (lambda v, g: (v, *g))(*value_and_gradient(pair, (x, y))),
        (X, Y),
        (pair(X, Y), Y.exp() @ A, (X @ A.T) * Y.exp()),
    ),
    "vjp": (lambda x, c: vjp(outputs, x, c), (X, CO), (outputs(X), (CO.unsqueeze(1) @ JACOBIAN).squeeze(1))),
    "vjp block": (lambda x, c: vjp(outputs, x, c), (X, COS), (outputs(X), COS @ JACOBIAN)),
    "vjp of two": (
        lambda x, y, c: (lambda v, g: (v, *g))(*vjp(lambda x, y: x @ A.T * y, (x, y), c)),
        (X, Y, COS),
        (X @ A.T * Y, (COS * Y.unsqueeze(1)) @ A, COS * (X @ A.T).unsqueeze(1)),
    ),
    "jvp": (lambda x, v: jvp(outputs, x, v), (X, V), (outputs(X), (JACOBIAN @ V.unsqueeze(-1)).squeeze(-1))),
    "jvp block": (lambda x, v: jvp(outputs, x, v), (X, BLOCK), (outputs(X), products(JACOBIAN, BLOCK))),
    "jvp of two": (
        lambda x, y, v, w: jvp(lambda x, y: x @ A.T * y, (x, y), (v, w)),
        (X, Y, V, CO),
        (X @ A.T * Y, V @ A.T * Y + X @ A.T * CO),
    ),
    "hvp": (lambda x, v: hvp(value, x, v), (X, V), (*written(X), (HESSIAN @ V.unsqueeze(-1)).squeeze(-1))),
    "hvp block": (lambda x, v: hvp(value, x, v), (X, BLOCK), (*written(X), products(HESSIAN, BLOCK))),
    "hvp, gradient written": (
        lambda x, v: hvp(written, x, v, written=True),
        (X, BLOCK),
        (*written(X), products(HESSIAN, BLOCK)),
    ),
    "jacobian": (lambda x: jacobian(outputs, x), (X,), (outputs(X), JACOBIAN)),
    "jacobian, forward": (lambda x: jacobian(outputs, x, forward=True), (X,), (outputs(X), JACOBIAN)),
    "hessian": (lambda x: hessian(value, x), (X,), (*written(X), HESSIAN)),
    "hessian, gradient written": (
        lambda x: hessian(written, x, written=True),
        (X,),
        (*written(X), HESSIAN),
    ),
    "gauss-newton": (
        lambda x, v: gauss_newton(outputs, loss, x, v),
        (X, V),
        (loss(outputs(X)), (CURVATURE @ V.unsqueeze(-1)).squeeze(-1)),
    ),
    "gauss-newton block": (
        lambda x, v: gauss_newton(outputs, loss, x, v),
        (X, BLOCK),
        (loss(outputs(X)), products(CURVATURE, BLOCK)),
    ),
}
MODES = {"no grad": torch.no_grad, "grad": contextlib.nullcontext, "inference": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_closed_form(case: str, mode: str) -> None:
    ask, arguments, expected = CASES[case]
    with MODES[mode]():
        found = ask(*arguments)
        assert not any(part.requires_grad for part in found)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_vmap(case: str) -> None:
    ask, arguments, _ = CASES[case]
    many = [torch.stack([part, part + 0.3]) for part in arguments]
    with torch.no_grad():
        for one in range(len(many)):  # what is not mapped over meets what is
            given = [part if i == one else part[0] for i, part in enumerate(many)]
            dims = tuple(0 if i == one else None for i in range(len(many)))
            found = torch.func.vmap(ask, in_dims=dims)(*given)
            for row in range(2):
                expected = ask(*[part[row] if i == one else part for i, part in enumerate(given)])
                torch.testing.assert_close(tuple(part[row] for part in found), expected)


def test_vmap_over_what_a_function_closes_over() -> None:
    def at(scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return hvp(lambda x: scale * value(x), X, BLOCK)

    with torch.no_grad():
        found = torch.func.vmap(at)(torch.tensor([1.0, 2.0], dtype=torch.float64))
        for row, part in zip(at(torch.tensor(2.0).double()), found, strict=True):
            torch.testing.assert_close(part[1], row)


@pytest.mark.parametrize("case", CASES)
def test_differentiates_again(case: str) -> None:
    """One derivative more, against central differences."""
    ask, arguments, _ = CASES[case]
    generator = torch.Generator().manual_seed(1)
    along = [torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in arguments]
    weights = [torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in ask(*arguments)]

    def total(step: Tensor) -> Tensor:
        moved = [part + step * d for part, d in zip(arguments, along, strict=True)]
        return sum(((w * f).sum() for w, f in zip(weights, ask(*moved), strict=True)), torch.tensor(0.0))

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(total(step), step)
    with torch.no_grad():
        difference = (total(step + 1e-5) - total(step - 1e-5)) / 2e-5
    torch.testing.assert_close(slope, difference, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(torch.func.grad(total)(step.detach()), slope)


@pytest.mark.parametrize("ours", [True, False], ids=["as rollouts do", "make_fx alone"])
@pytest.mark.parametrize("case", CASES)
def test_recorded(case: str, ours: bool) -> None:
    ask, arguments, _ = CASES[case]
    with torch.no_grad():
        with recording() if ours else contextlib.nullcontext():
            program = make_fx(ask)(*arguments)
        moved = [part + 0.1 for part in arguments]
        torch.testing.assert_close(program(*moved), ask(*moved))


@pytest.mark.parametrize("mode", MODES)
def test_constants_have_slope_0(mode: str) -> None:
    def steps(x: Tensor) -> Tensor:
        return (x > 0).sum(-1)  # whole numbers

    def linear(x: Tensor) -> Tensor:
        return x.sum(-1)

    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)  # a graph, but not of the point
    with MODES[mode]():
        for function in (steps, lambda x: torch.ones(len(x)), lambda x: x.detach().sum(-1)):
            found, gradient = value_and_gradient(function, X)
            torch.testing.assert_close(found, function(X).to(found.dtype))
            assert found.is_floating_point() and torch.equal(gradient, torch.zeros_like(X))
            assert torch.equal(hvp(function, X, BLOCK)[2], torch.zeros_like(BLOCK))
        assert torch.equal(hessian(linear, X)[2], torch.zeros(B, N, N))
        assert torch.equal(hessian(lambda x: (weight * x).sum(-1), X)[2], torch.zeros(B, N, N))
        first, second = vjp(lambda x, y: x.square(), (X, Y), BLOCK)[1]
        assert torch.equal(second, torch.zeros(B, M, P))
        torch.testing.assert_close(first, 2 * X.unsqueeze(1) * BLOCK)
        assert torch.equal(vjp(lambda x: torch.ones(B, P), X, COS)[1], torch.zeros(B, M, N))


def test_another_shape_is_named() -> None:
    for mode in MODES.values():
        with mode(), pytest.raises(ValueError, match=r"one number a row, of shape \(4,\), got \(4, 3\)"):
            value_and_gradient(lambda x: x**2, X)


@pytest.mark.parametrize("inside", [False, True], ids=["made outside", "made inside"])
def test_gradient_in_inference_mode(inside: bool) -> None:
    with torch.inference_mode(inside):
        weight = torch.arange(6.0).view(2, 3)
        x = torch.tensor([[1.0, -2.0], [0.5, 3.0]])

    def function(y: Tensor) -> Tensor:
        return (y @ weight).square().sum(-1)

    with torch.inference_mode():
        value, gradient = value_and_gradient(function, x)
        product = hvp(function, x, x)[2]
        matrix = hessian(function, x)[2]
    torch.testing.assert_close(value, function(x))
    torch.testing.assert_close(gradient, 2 * x @ weight @ weight.T)
    torch.testing.assert_close(product, gradient)  # of a quadratic form
    torch.testing.assert_close(matrix, (2 * weight @ weight.T).expand(2, -1, -1))
    assert not value.requires_grad and not gradient.requires_grad


@pytest.mark.parametrize("oracle", ["gradient", "hvp"])
@pytest.mark.parametrize("name", ["Rosenbrock", "Ackley", "Quadratic"])
def test_landscapes_in_inference_mode(name: str, oracle: str) -> None:
    core = optenvs.make(f"optenvs/{name}-v0", dim=3, oracle=oracle, dtype="float64")

    def ask() -> dict[str, Tensor]:
        state = core.reset(keys_from_seed(0, 4))
        query = 0.9 * state.observation["point"]
        action = query if oracle == "gradient" else {"point": query, "vector": torch.ones_like(query)}
        return core.step(state, action).observation

    expected = ask()
    with torch.inference_mode():
        found = ask()
    assert expected[oracle].abs().max() > 0.01
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_what_a_function_tells_besides_has_no_graph() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])

    def function(y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return y.square().sum(-1), {"twice": 2 * y}

    plain = value_gradient_and_rest
    with torch.no_grad():
        found = plain(function, x)
    with torch.enable_grad():
        other = plain(function, x)
    for value, slope, rest in (found, other, torch.func.vmap(lambda row: plain(function, row))(x[:, None])):
        assert value.flatten().tolist() == [5.0, 10.0]
        assert torch.equal(slope.reshape(2, 2), 2 * x)
        assert torch.equal(rest["twice"].reshape(2, 2), 2 * x)
        assert not rest["twice"].requires_grad


def test_a_block_of_one_is_one() -> None:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    vector = torch.cos(x)
    quartic = lambda y: (y**4).sum(-1) + y[:, 0] * y[:, 1]  # noqa: E731
    with torch.no_grad():
        _, alone = oracles.jacobian(lambda y: quartic(y).unsqueeze(-1), x)
        assert torch.equal(alone[:, 0], oracles.value_and_gradient(quartic, x)[1])
        _, _, turned = oracles.hvp(quartic, x, vector.unsqueeze(1))
        assert torch.equal(turned[:, 0], oracles.hvp(quartic, x, vector)[2])
    assert alone.shape == turned.shape == (2, 1, 3)
