"""Private quadratics: derivatives, conjugates, the solution and the constants."""

from __future__ import annotations

import pytest
import torch

from optenvs.core.random import fold_in, keys_from_seed, normal
from optenvs.envs.network.quadratic import NetworkQuadratic

KEYS = keys_from_seed(0, 3)
NODES = fold_in(KEYS.unsqueeze(-1), torch.arange(5))
CORE = NetworkQuadratic(nodes=5, dim=3, mu=0.5, L=20.0)


def values(core: NetworkQuadratic, x: torch.Tensor) -> torch.Tensor:
    """The f_i, ``(B, N)``."""
    own = core.draw(KEYS).functions.data
    return own.curvature / 2 * (x - own.centre).square().sum(-1)


def test_gradients_are_the_derivatives() -> None:
    x = (3 * normal(KEYS, "x", (5, 3), dtype=torch.float64)).requires_grad_()
    (expected,) = torch.autograd.grad(values(CORE, x).sum(), x)
    assert torch.allclose(CORE.gradient(CORE.draw(KEYS).functions.data, x, NODES), expected, atol=1e-12)


def test_conjugates_are_where_the_gradient_is_the_given_one() -> None:
    data = CORE.draw(KEYS).functions.data
    v = normal(KEYS, "v", (5, 3), dtype=torch.float64)
    assert torch.allclose(CORE.gradient(data, CORE.conjugate(data, v), NODES), v, atol=1e-12)


def test_the_gradients_at_the_solution_cancel() -> None:
    functions = CORE.draw(KEYS).functions
    x = functions.solution.unsqueeze(1).expand(-1, 5, -1)
    assert CORE.gradient(functions.data, x, NODES).sum(1).abs().max() < 1e-12


def test_both_extreme_curvatures_are_present() -> None:
    draw = CORE.draw(keys_from_seed(1, 50))
    curvature = draw.functions.data.curvature
    assert torch.allclose(curvature.amin(-1), torch.tensor(0.5, dtype=torch.float64))
    assert torch.allclose(curvature.amax(-1), torch.tensor(20.0, dtype=torch.float64))
    assert torch.equal(draw.mu, curvature.amin(-1))
    assert torch.equal(draw.L, curvature.amax(-1))
    assert len(curvature.flatten().unique()) > 100


def test_given_curvatures() -> None:
    core = NetworkQuadratic(nodes=2, graph="path", curvatures=(1.0, 10.0))
    draw = core.draw(KEYS)
    assert draw.functions.data.curvature.tolist() == [[1.0, 10.0]] * 3
    assert (draw.mu.tolist(), draw.L.tolist()) == ([1.0] * 3, [10.0] * 3)


def test_the_gap_is_the_excess_of_the_mean_function() -> None:
    functions = CORE.draw(KEYS).functions
    x = normal(KEYS, "x", 3, dtype=torch.float64)
    excess = values(CORE, x.unsqueeze(1)).mean(-1) - values(CORE, functions.solution.unsqueeze(1)).mean(-1)
    assert torch.allclose(CORE.measure(functions, x)["gap"], excess, atol=1e-11)


def test_noise_is_unbiased_and_new_for_every_gradient() -> None:
    core = NetworkQuadratic(nodes=5, dim=3, noise=2.0)
    many = keys_from_seed(3, 4000)
    data = core.draw(KEYS[:1]).functions.data
    x = torch.ones(1, 5, 3, dtype=torch.float64)
    noisy = core.gradient(data, x, fold_in(many.unsqueeze(-1), torch.arange(5)))
    exact = NetworkQuadratic(nodes=5, dim=3).gradient(data, x, NODES[:1])
    assert (noisy.mean(0) - exact[0]).abs().max() < 5 * 2.0 / 4000**0.5
    assert torch.allclose(noisy.std(0), torch.tensor(2.0, dtype=torch.float64), rtol=0.06)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"mu": 0.0}, "mu, L: expected 0 < mu <= L"),
        ({"mu": 3.0, "L": 2.0}, "mu, L: expected 0 < mu <= L"),
        ({"noise": -1.0}, "noise: expected a number >= 0"),
        ({"curvatures": (1.0, 2.0)}, "curvatures: expected 5 numbers > 0"),
        ({"curvatures": (1.0, 2.0, 0.0, 1.0, 1.0)}, "curvatures: expected 5 numbers > 0"),
    ],
)
def test_bad_input(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkQuadratic(nodes=5, **keywords)  # type: ignore[arg-type]
