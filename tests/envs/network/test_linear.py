"""Linear regression over a network: the law of the data, derivatives, conjugates, solution, constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_regression

from optenvs.core.random import fold_in, keys_from_seed, normal
from optenvs.envs.network.linear import NetworkLinear

KEYS = keys_from_seed(0, 3)
NODES = fold_in(KEYS.unsqueeze(-1), torch.arange(4))
CORE = NetworkLinear(nodes=4, dim=3, samples=20)


def values(core: NetworkLinear, x: torch.Tensor, keys: torch.Tensor = KEYS) -> torch.Tensor:
    """The f_i by their definition, ``(B, N)``."""
    inputs, targets = core.table(keys)
    residual = (inputs @ x.unsqueeze(-1)).squeeze(-1) - targets
    return residual.square().sum(-1) / core.samples


@pytest.mark.parametrize("samples", [3, 20])
def test_gradients_are_the_derivatives(samples: int) -> None:
    core = NetworkLinear(nodes=4, dim=3, samples=samples)
    x = (50 * normal(KEYS, "x", (4, 3), dtype=torch.float64)).requires_grad_()
    (expected,) = torch.autograd.grad(values(core, x).sum(), x)
    found = core.gradient(core.draw(KEYS).functions.data, x, NODES)
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-10)


def test_conjugates_are_where_the_gradient_is_the_given_one() -> None:
    core = NetworkLinear(nodes=4, dim=3, samples=20, oracle="conjugate")
    data = core.draw(KEYS).functions.data
    v = 100 * normal(KEYS, "v", (4, 3), dtype=torch.float64)
    x = core.conjugate(data, v)
    assert torch.allclose(core.gradient(data, x, NODES), v, rtol=1e-11, atol=1e-10)
    # the formula of Nabli and Oyallon's code
    inputs, targets = core.table(KEYS)
    right = core.samples / 2 * v + (inputs.mT @ targets.unsqueeze(-1)).squeeze(-1)
    formula = torch.linalg.pinv(inputs.mT @ inputs, hermitian=True) @ right.unsqueeze(-1)
    assert torch.allclose(x, formula.squeeze(-1), rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 3, 14])
def test_the_solution_is_that_of_all_samples(dim: int) -> None:
    core = NetworkLinear(nodes=4, dim=dim, samples=20)
    inputs, targets = core.table(KEYS)
    solution = core.draw(KEYS).functions.solution
    for row in range(3):
        rows, right = inputs[row].reshape(-1, dim).numpy(), targets[row].flatten().numpy()
        found = np.linalg.lstsq(rows, right, rcond=None)[0]
        assert np.allclose(solution[row], found, rtol=1e-10, atol=1e-10 * np.abs(found).max())


def test_the_constants_are_the_extreme_eigenvalues() -> None:
    inputs, _ = CORE.table(KEYS)
    draw = CORE.draw(KEYS)
    for row in range(3):
        spectra = [np.linalg.eigvalsh(2 / 20 * own.T @ own) for own in inputs[row].numpy()]
        assert float(draw.mu[row]) == pytest.approx(min(s[0] for s in spectra), rel=1e-12)
        assert float(draw.L[row]) == pytest.approx(max(s[-1] for s in spectra), rel=1e-12)


def test_the_gap_is_the_excess_of_the_mean_function() -> None:
    functions = CORE.draw(KEYS).functions
    x = 10 * normal(KEYS, "x", 3, dtype=torch.float64)
    excess = values(CORE, x.unsqueeze(1)).mean(-1) - values(CORE, functions.solution.unsqueeze(1)).mean(-1)
    assert torch.allclose(CORE.measure(functions, x)["gap"], excess, rtol=1e-9)
    tiny = functions.solution + 1e-9
    assert (CORE.measure(functions, tiny)["gap"] > 0).all()
    assert (CORE.measure(functions, tiny)["gap"] < 1e-15).all()


def test_minibatches_are_unbiased_and_uniform() -> None:
    core, draws = NetworkLinear(nodes=4, dim=3, samples=20, batch_size=5), 4000
    many = fold_in(keys_from_seed(9, draws).unsqueeze(-1), torch.arange(4))
    x = torch.full((1, 4, 3), 30.0, dtype=torch.float64)
    data = core.draw(KEYS[:1]).functions.data
    whole = {name: value.expand(draws, *value.shape[1:]) for name, value in data.items()}
    found = core.gradient(whole, x.expand(draws, -1, -1), many)
    exact = CORE.gradient(CORE.draw(KEYS[:1]).functions.data, x, NODES[:1])[0]
    error = (found.mean(0) - exact).abs() / (found.std(0) / draws**0.5)
    assert error.max() < 4.5
    # the variance of a mean of 5 with replacement is a fifth of that of one sample
    inputs, targets = core.table(KEYS[:1])
    residual = (inputs @ x.unsqueeze(-1)).squeeze(-1) - targets
    single = (2 * residual.unsqueeze(-1) * inputs).var(2, correction=0)[0]
    assert torch.allclose(found.var(0), single / 5, rtol=0.2)


def test_a_minibatch_is_new_for_every_gradient_and_the_same_when_asked_again() -> None:
    core = NetworkLinear(nodes=4, dim=3, samples=20, batch_size=5)
    data, x = core.draw(KEYS).functions.data, torch.ones(3, 4, 3, dtype=torch.float64)
    assert torch.equal(core.gradient(data, x, NODES), core.gradient(data, x, NODES))
    assert not torch.equal(core.gradient(data, x, NODES), core.gradient(data, x, fold_in(NODES, 1)))


@pytest.mark.parametrize("dim", [2, 14])
def test_the_samples_have_the_law_of_make_regression(dim: int) -> None:
    """Inputs and targets against scikit-learn's, each node's targets divided by their root mean square."""
    core = NetworkLinear(nodes=300, dim=dim, samples=40, graph="star")
    inputs, targets = (part[0].numpy() for part in core.table(KEYS[:1]))
    peers = [make_regression(40, dim, noise=10, random_state=seed) for seed in range(300)]
    assert stats.kstest(inputs.ravel(), "norm").pvalue > 1e-3
    own = [np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(inputs, targets, strict=True)]
    sizes = np.sqrt((targets**2).mean(1))
    peer = [np.linalg.lstsq(a, b, rcond=None)[0] for a, b in peers]
    scale = np.sqrt([(b**2).mean() for _, b in peers])
    # models as shares of the size of the targets: the factor of a node cancels
    ours, theirs = np.stack(own) / sizes[:, None], np.stack(peer) / scale[:, None]
    assert stats.ks_2samp(ours.ravel(), theirs.ravel(), method="asymp").pvalue > 1e-3
    assert stats.ks_2samp(np.sort(ours)[:, 0], np.sort(theirs)[:, 0], method="asymp").pvalue > 1e-3


def test_one_factor_scales_the_targets_of_a_node() -> None:
    """The factor is U(0.01, 5): the noise of the targets is 10 times it, a coefficient 100 U(0, 1) times."""
    core = NetworkLinear(nodes=400, dim=2, samples=200, graph="star")
    inputs, targets = (part[0].numpy() for part in core.table(KEYS[:1]))
    noise, models = [], []
    for a, b in zip(inputs, targets, strict=True):
        models.append(np.linalg.lstsq(a, b, rcond=None)[0])
        noise.append(np.sqrt(((b - a @ models[-1]) ** 2).sum() / 198) / 10)
    coefficients = (np.stack(models) / np.array(noise)[:, None]).ravel()
    assert stats.kstest(coefficients, stats.uniform(0, 100).cdf).pvalue > 1e-3
    assert stats.kstest(noise, stats.uniform(0.01, 4.99).cdf).pvalue > 1e-3


def test_single_precision_holds_the_same_instance() -> None:
    one, other = (core.draw(KEYS) for core in (CORE, CORE.replace(dtype="float32")))  # type: ignore[attr-defined]
    assert other.functions.solution.dtype == torch.float32
    assert torch.equal(one.functions.solution.float(), other.functions.solution)
    assert torch.equal(one.mu.float(), other.mu)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"samples": 2, "dim": 3}, "samples: expected at least dim = 3, got 2"),
        ({"samples": 10.5}, "samples: expected a whole number >= 1, got 10.5"),
        ({"batch_size": 0}, "batch_size: expected a whole number >= 1, got 0"),
        ({"target_noise": -1.0}, "target_noise: expected a number >= 0, got -1.0"),
        ({"dim": None}, "dim: expected a whole number >= 1, got None"),
    ],
)
def test_bad_input(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkLinear(**keywords)  # type: ignore[arg-type]
