"""Counterfactual: paths, constraints at the start, a feasible point of each instance, true gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from optenvs.core.random import keys_from_seed
from optenvs.data.weights import load_weights
from optenvs.envs.surrogate.counterfactual import CELLS, LATENT, NORM, Counterfactual, atlas
from optenvs.envs.surrogate.terrain import SHAPES, SIDE, decode, price, shortest_paths

KEYS = keys_from_seed(7, 5)


def ask(env: Counterfactual, points: torch.Tensor, along: torch.Tensor | None = None) -> dict[str, Any]:
    batch = len(points)
    query = {
        "points": points.unsqueeze(1),
        "count": torch.ones(batch, 1, dtype=torch.int64),
        "threshold": torch.full((batch, 1), -1e30, dtype=torch.float64),
        "allowance": torch.zeros(batch, 1, dtype=torch.float64),
        "base": points,
    }
    return query if along is None else query | {"cotangent": along}


def test_outputs_are_the_latents_and_the_costs_of_their_map() -> None:
    state = Counterfactual().reset(KEYS)
    outputs, x = state.observation["outputs"], state.observation["point"]
    weights = {name: tensor.double() for name, tensor in load_weights("counterfactual").items()}
    assert torch.equal(outputs[:, :LATENT], x)
    costs = price(weights, decode(weights, x))
    assert torch.allclose(outputs[:, LATENT : LATENT + CELLS], costs, atol=1e-10)
    assert torch.allclose(state.problem.aim.first, outputs[:, : LATENT + CELLS], atol=1e-10)


def test_the_usual_path_is_the_cheapest_of_the_start() -> None:
    state = Counterfactual().reset(KEYS)
    aim = state.problem.aim
    costs = state.observation["outputs"][:, LATENT : LATENT + CELLS].view(-1, SIDE, SIDE)
    expected = torch.tensor(shortest_paths(costs.numpy())).flatten(1)
    assert torch.equal(aim.usual, expected)
    assert (aim.usual[:, [0, -1]] == 1).all() and (aim.other[:, [0, -1]] == 1).all()
    assert (aim.usual != aim.other).any(-1).all()


def test_constraints_at_the_start() -> None:
    """The norm is right; the other path is too dear; f is 0."""
    env = Counterfactual(formulation="constraints")
    state = env.reset(keys_from_seed(0, 200))
    ring, path = state.observation["constraints"].unbind(-1)
    assert torch.allclose(ring, torch.full_like(ring, -0.1), atol=1e-12)
    aim, costs = state.problem.aim, state.problem.aim.first[:, LATENT:]
    dear = (2 * (aim.other * costs).sum(-1) - (aim.usual * costs).sum(-1)) / 10
    assert torch.allclose(path, dear) and (path > 0).all()
    assert torch.allclose(state.observation["value"], torch.zeros(200, 1, dtype=torch.float64), atol=1e-12)
    assert (state.metrics["feasible"] == 0).all()
    assert (state.merit > env.ceiling).all()


def test_every_instance_has_a_feasible_map() -> None:
    env = Counterfactual(formulation="constraints")
    state = env.reset(KEYS)
    maps = atlas(torch.device("cpu"))
    # of the maps of the atlas, some whose cheapest path is the other one
    known = (maps.paths[None] == state.problem.aim.other[:, None]).all(-1)
    first = (maps.latents[None] == state.observation["point"][:, None]).all(-1).long().argmax(-1)
    partner = (known & maps.pairs[first]).long().argmax(-1)
    after = env.step(state, maps.latents[partner])
    assert (after.observation["constraints"] <= 0).all()
    assert (after.metrics["feasible"] == 1).all()
    assert (after.merit < env.ceiling).all() and (after.merit > 0).all()


def test_values_by_hand() -> None:
    env = Counterfactual(formulation="constraints")
    state = env.reset(KEYS)
    x = state.observation["point"] * 1.5
    after = env.step(state, x)
    costs = after.observation["outputs"][:, LATENT:]
    aim = state.problem.aim
    far = (NORM / 2) ** 2 + ((costs.sum(-1) - aim.first[:, LATENT:].sum(-1)) / 25) ** 2
    assert torch.allclose(after.observation["value"][:, 0], far)
    ring = torch.tensor((0.5 * NORM + 1) * (0.5 * NORM - 1) / 10, dtype=torch.float64)
    assert torch.allclose(after.observation["constraints"][:, 0], ring.expand(5))


@pytest.mark.parametrize("formulation", ["penalty", "constraints"])
def test_the_product_is_the_slope(formulation: str) -> None:
    """J' grad f against central differences of the value, where both constraints are violated."""
    env = Counterfactual(points=1, oracle="vjp", formulation=formulation)
    zero = torch.zeros(5, env.output_count, dtype=torch.float64)
    state = env.reset(KEYS)
    base = 1.4 * state.observation["point"].squeeze(1) + torch.linspace(
        -0.1, 0.1, LATENT, dtype=torch.float64
    )
    here = env.step(state, ask(env, base, zero))
    along = state.problem.slope(here.observation["outputs"].squeeze(1))
    assert formulation == "constraints" or (along[:, -2] < 0).all()
    product = env.step(state, ask(env, base, along)).observation["vjp"]

    def value(x: torch.Tensor) -> torch.Tensor:
        return env.step(state, ask(env, x, zero)).observation["value"].squeeze(1)

    for i, shift in enumerate(1e-6 * torch.eye(LATENT, dtype=torch.float64)):
        difference = (value(base + shift) - value(base - shift)) / 2e-6
        assert torch.allclose(-product[:, i], difference, rtol=1e-4, atol=1e-5)


def test_the_official_slope_is_another() -> None:
    true, official = (Counterfactual(official_slope=flag).reset(KEYS) for flag in (False, True))
    assert torch.equal(true.observation["value"], official.observation["value"])
    y = true.observation["outputs"]
    slope = official.problem.slope(y)
    costs = y[:, LATENT : LATENT + CELLS]
    expected = -2 / 25**2 * (1 + costs.sum(-1, keepdim=True) - costs)  # at the start, where the true one is 0
    assert torch.allclose(slope[:, LATENT : LATENT + CELLS], expected)
    assert torch.allclose(true.problem.slope(y)[:, :-2], torch.zeros(5, LATENT + CELLS).double(), atol=1e-12)


def test_a_white_box_gives_the_same_outputs() -> None:
    state = Counterfactual(white_box=True).reset(KEYS)
    outputs = state.problem.outputs(state.observation["point"].unsqueeze(1)).squeeze(1)
    assert torch.allclose(outputs, state.observation["outputs"], atol=1e-12)
    with pytest.raises(ValueError, match="white_box"):
        Counterfactual().reset(KEYS).problem.outputs(torch.zeros(5, 1, LATENT))


def test_instances_differ() -> None:
    state = Counterfactual().reset(keys_from_seed(0, 100))
    assert len(state.observation["point"].unique(dim=0)) > 85


def test_networks_that_price_everything_alike(tmp_path: Path) -> None:
    file = tmp_path / "flat.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in SHAPES}, file)
    with pytest.raises(ValueError, match="no map is a feasible point of another"):
        Counterfactual(weights=str(file)).reset(KEYS)


def test_a_wrong_flag() -> None:
    with pytest.raises(TypeError, match="official_slope: expected True or False, got 1"):
        Counterfactual(official_slope=1)  # type: ignore[arg-type]
