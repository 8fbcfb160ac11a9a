"""Learned optimizers: their networks as published, differentiable, and to and from disk."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import agents
import optenvs
from agents.learned import lolv2
from agents.learned.lstm import LSTMCell
from optenvs.core import keys_from_seed
from optenvs.core.random import normal
from optenvs.core.sealed import write_tensors

QUADRATIC = optenvs.make("Quadratic", dim=5, budget=None, tolerance=None)
LEARNED = {"lstm_optimizer": agents.LSTMOptimizer, "lolv2": agents.LOLv2}


def _count(agent: agents.Agent) -> int:
    return sum(value.numel() for value in agent.parameters())


def test_networks_have_the_published_size() -> None:
    assert _count(agents.LSTMOptimizer()) == 5141  # one bias a gate, two inputs
    assert _count(agents.LSTMOptimizer(preprocess="raw")) == 5061
    assert _count(agents.LOLv2()) == 1762


@pytest.mark.parametrize("name", LEARNED)
def test_weights_come_from_the_seed_alone(name: str) -> None:
    before = torch.get_rng_state()
    one, same, other = (agents.make(name, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not any(torch.equal(a, c) for a, _, c in pairs)
    for value in one.net.state_dict().values():
        assert value.abs().max() > 0


@pytest.mark.parametrize("name", LEARNED)
def test_saved_and_loaded(name: str, tmp_path) -> None:
    agent = agents.make(name, seed=1, hidden=6, dtype="float64")
    with torch.no_grad():
        for value in agent.parameters():
            value.add_(0.1)
    path = tmp_path / "weights.safetensors"
    agent.save(path)
    loaded = type(agent).load(path)
    assert (loaded.hidden, loaded.dtype, loaded.seed) == (6, "float64", 1)
    env = QUADRATIC.replace(dtype="float64")
    runs = [optenvs.rollout(env, a, seed=0, batch=3, steps=5) for a in (agent, loaded)]
    assert torch.equal(runs[0].merit, runs[1].merit)


@pytest.mark.parametrize("name", LEARNED)
def test_a_set_of_weights_a_row(name: str, tmp_path) -> None:
    """Three rules as one agent are the three rules, in every mode, and to and from disk."""
    env = QUADRATIC.replace(dtype="float64")
    rules = [agents.make(name, hidden=4, seed=seed, dtype="float64") for seed in range(3)]
    sets = torch.stack([rule.flat for rule in rules]).detach()
    population = rules[0].replace(weights=sets)
    assert sets.shape == (3, population.size) == (3, _count(population))
    keys = keys_from_seed(0, 3)
    together = optenvs.rollout(env, population, keys=keys, steps=4)
    for row, rule in enumerate(rules):
        alone = optenvs.rollout(env, rule, keys=keys[row : row + 1], steps=4)
        torch.testing.assert_close(together.merit[:, row], alone.merit[:, 0])
    assert not torch.allclose(together.merit[-1, 0], together.merit[-1, 1])
    population.save(tmp_path / "rules")
    loaded = type(population).load(tmp_path / "rules")
    assert torch.equal(loaded.weights, sets)

    leaf = sets.clone().requires_grad_()
    run = optenvs.unroll(env, population.replace(weights=leaf), keys=keys, steps=3)
    (slopes,) = torch.autograd.grad(run.merit[-1].sum(), leaf, create_graph=True)
    for row, rule in enumerate(rules):
        alone = optenvs.unroll(env, rule, keys=keys[row : row + 1], steps=3)
        slope = torch.autograd.grad(alone.merit[-1].sum(), list(rule.parameters()))
        torch.testing.assert_close(slopes[row], torch.cat([part.flatten() for part in slope]))
    assert torch.autograd.grad((slopes**2).sum(), leaf)[0].isfinite().all()


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("rows", [False, True])
def test_weights_follow_the_observation(name: str, rows: bool) -> None:
    agent = agents.make(name, hidden=4)
    if rows:
        agent = agent.replace(weights=agent.flat.detach().expand(2, -1))
    exact = agents.make(name, hidden=4, dtype="float64", net=agent.net)
    env = QUADRATIC.replace(dtype="float64")
    run = optenvs.rollout(env, agent, seed=0, batch=2, steps=3)
    assert run.merit.dtype == torch.float64
    exact.net.double()
    torch.testing.assert_close(run.merit, optenvs.rollout(env, exact, seed=0, batch=2, steps=3).merit)


def test_sets_of_weights_that_do_not_fit_are_named() -> None:
    agent = agents.LOLv2(hidden=4)
    with pytest.raises(ValueError, match=rf"LOLv2: weights: expected a tensor \(B, {agent.size}\) or None"):
        agent.replace(weights=torch.zeros(3, agent.size + 1))
    three = agent.replace(weights=torch.zeros(3, agent.size))
    with pytest.raises(ValueError, match="weights: expected a set for each of 2 rows, got 3"):
        optenvs.rollout(QUADRATIC, three, seed=0, batch=2, steps=1)


def test_a_file_of_another_agent_is_refused(tmp_path) -> None:
    agents.LOLv2().save(tmp_path / "lolv2")
    with pytest.raises(ValueError, match="expected the weights of LSTMOptimizer, got 'LOLv2'"):
        agents.LSTMOptimizer.load(tmp_path / "lolv2")
    save_file({"w": torch.zeros(1)}, tmp_path / "bare")
    with pytest.raises(ValueError, match="bare: not a readable learned optimizer .it has no checksum"):
        agents.LOLv2.load(tmp_path / "bare")
    with pytest.raises(ValueError, match="other: .*format 'optenvs-2', expected 'optenvs-learned-2'"):
        agents.LOLv2.load(optenvs.save(tmp_path / "other", {}))
    for settings in ("[" * 100_000, '{"hiden": 3}', '{"hidden": 3}', "[]"):
        path = tmp_path / "crafted"
        write_tensors(path, {}, {"format": "optenvs-learned-2", "agent": "LOLv2", "settings": settings})
        with pytest.raises(ValueError, match=f"^{path}: not a readable learned optimizer"):
            agents.LOLv2.load(path)
    with pytest.raises(FileNotFoundError):
        agents.LOLv2.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", LEARNED)
def test_a_flipped_bit_is_always_refused(name: str, tmp_path) -> None:
    agent = agents.make(name, hidden=3)
    path = tmp_path / "weights"
    agent.save(path)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 29):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^{path}: not a readable learned optimizer"):
            type(agent).load(path)


def test_replace_keeps_the_trained_network() -> None:
    agent = agents.LSTMOptimizer(hidden=4)
    assert agent.replace(scale=1.0).net is agent.net
    with pytest.raises(ValueError, match="LSTMOptimizer: net: expected a network with the parameters"):
        agent.replace(hidden=5)
    assert agent.replace(hidden=5, net=None).net is not agent.net


def test_cell_is_torchs() -> None:
    ours, theirs = LSTMCell(3, 4, torch.float64), torch.nn.LSTMCell(3, 4, dtype=torch.float64)
    draw = normal(keys_from_seed(0, 7), "x", 11, dtype=torch.float64)
    x, h, c = draw.split((3, 4, 4), dim=1)
    with torch.no_grad():
        ours.gates.weight.copy_(normal(keys_from_seed(1, 1), "w", (16, 7), dtype=torch.float64)[0])
        ours.gates.bias.copy_(normal(keys_from_seed(1, 1), "b", 16, dtype=torch.float64)[0])
        # ours: forget, input, output, candidate; torch's: input, forget, candidate, output
        order = torch.cat([torch.arange(4) + 4 * gate for gate in (1, 0, 3, 2)])
        theirs.weight_ih.copy_(ours.gates.weight[order, :3])
        theirs.weight_hh.copy_(ours.gates.weight[order, 3:])
        theirs.bias_ih.copy_(ours.gates.bias[order])
        theirs.bias_hh.zero_()
    for one, other in zip(ours(x, h, c), theirs(x, (h, c)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", LEARNED)
def test_twice_differentiable(name: str) -> None:
    agent = agents.make(name, hidden=3, dtype="float64")
    env = QUADRATIC.replace(dtype="float64")
    run = optenvs.unroll(env, agent, seed=0, batch=2, steps=3)
    weights = list(agent.parameters())
    gradient = torch.autograd.grad(run.merit[-1].sum(), weights, create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in gradient), weights)
    assert all(value.isfinite().all() for value in second)
    assert sum(value.abs().sum() for value in second) > 0


@pytest.mark.parametrize("name", LEARNED)
def test_vmap_over_instances(name: str) -> None:
    agent = agents.make(name)
    state = QUADRATIC.reset(keys_from_seed(0, 4))
    memory = agent.init(state.problem, state.observation, state.key)
    with torch.no_grad():
        expected, _ = agent.act(memory, state.observation)

        leaves, spec = torch.utils._pytree.tree_flatten((memory, state.observation))

        def single(*row):
            one = torch.utils._pytree.tree_unflatten([leaf.unsqueeze(0) for leaf in row], spec)
            return agent.act(*one)[0].squeeze(0)

        found = torch.func.vmap(single)(*leaves)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", LEARNED)
def test_coordinates_share_one_rule(name: str) -> None:
    agent = agents.make(name)
    state = QUADRATIC.reset(keys_from_seed(0, 2))
    seen = dict(state.observation)
    order = torch.tensor([3, 0, 4, 2, 1])
    turned = seen | {key: seen[key][:, order] for key in ("point", "gradient")}
    moves = []
    for observation in (seen, turned):
        memory = agent.init(state.problem, observation, state.key)
        action, memory = agent.act(memory, observation)
        action, _ = agent.act(memory, observation)
        moves.append(action.detach() - observation["point"])
    torch.testing.assert_close(moves[1], moves[0][:, order])
    assert moves[0].abs().max() > 0


def test_lolv2_step_is_the_published_formula() -> None:
    agent = agents.LOLv2(seed=2)
    state = QUADRATIC.reset(keys_from_seed(0, 3))
    point, gradient = state.observation["point"], state.observation["gradient"]
    momenta = [(1 - decay) * gradient for decay in (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)]
    parts = [x / (1e-5 + (x**2).mean(1, keepdim=True)).sqrt() for x in (gradient, point, *momenta)]
    scales = (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)
    parts += [torch.full_like(point, torch.tanh(torch.tensor(0 / c - 1.0)).item()) for c in scales]
    with torch.no_grad():
        direction, magnitude = agent.net(torch.stack(parts, -1)).unbind(-1)
        expected = point - 0.001 * direction * torch.exp(0.001 * magnitude)
        action, memory = agent.act(agent.init(state.problem, state.observation, state.key), state.observation)
    torch.testing.assert_close(action, expected)
    torch.testing.assert_close(memory.momenta[..., 2], momenta[2])


class OtherSequence(nn.Sequential):
    """A network that is run as it is, whatever its layers are."""


@pytest.mark.parametrize("rows", [False, True])
def test_the_time_enters_the_first_layer_by_itself(rows: bool) -> None:
    env = QUADRATIC.replace(dtype="float64")
    agent = agents.LOLv2(seed=2, step_multiplier=0.1, dtype="float64")
    other = agent.replace(net=OtherSequence(*agent.net))
    if rows:
        noise = normal(keys_from_seed(5, 3), "weights", agent.size, dtype=torch.float64)
        weights = (agent.flat.detach() + 0.1 * noise).requires_grad_()
        agent, other = agent.replace(weights=weights), other.replace(weights=weights)
    slopes = []
    for tried in (agent, other):
        run = optenvs.unroll(env, tried, seed=0, batch=3, steps=6)
        by = [weights] if rows else list(tried.parameters())
        slopes.append((run.merit, *torch.autograd.grad(run.merit[1:].sum(), by)))
    for one, another in zip(*slopes, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-9, atol=1e-11)
    assert slopes[0][0][-1].tolist() != slopes[0][0][0].tolist()


def test_lolv2_normalises_by_layout() -> None:
    env = optenvs.make("TrainDigits", samples=100)
    agent = agents.LOLv2()
    state = env.reset(keys_from_seed(0, 1))
    memory = agent.init(state.problem, state.observation, state.key)
    assert memory.sizes == tuple(slot.size for slot in env.network.layout)
    # a tensor's step does not see the gradients of the others
    louder = dict(state.observation)
    first = memory.sizes[0]
    louder["gradient"] = torch.cat((louder["gradient"][:, :first], 100 * louder["gradient"][:, first:]), 1)
    with torch.no_grad():
        one, two = (agent.act(memory, seen)[0] for seen in (state.observation, louder))
    torch.testing.assert_close(one[:, :first], two[:, :first])
    assert not torch.allclose(one[:, first:], two[:, first:], atol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agents.LSTMOptimizer(preprocess="log"), "preprocess: expected one of log_sign, raw"),
        (lambda: agents.LSTMOptimizer(scale=0.0), "scale: expected a number > 0, got 0.0"),
        (lambda: agents.LSTMOptimizer(hidden=0), "hidden: expected a whole number >= 1, got 0"),
        (lambda: agents.LOLv2(step_multiplier=-1.0), "step_multiplier: expected a number > 0"),
        (lambda: agents.LOLv2(dtype="float16"), "dtype: expected 'float32' or 'float64'"),
    ],
)
def test_bad_input_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_large_point_in_pieces_is_the_point_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agents.LOLv2(dtype="float64", step_multiplier=0.1)
    sizes, dtype = (37, 1, 16, 46), torch.float64
    problem = SimpleNamespace(model=SimpleNamespace(layout=[SimpleNamespace(size=size) for size in sizes]))
    key = keys_from_seed(0, 3)
    seen = {name: normal(key, name, 100, dtype=dtype) for name in ("point", "gradient")}
    seen |= {"k": torch.tensor([[0.0], [3.0], [50.0]], dtype=dtype)}
    with torch.no_grad():
        state = agent.init(problem, seen, key)
        for _ in range(3):
            expected, after = agent.act(state, seen)
            with monkeypatch.context() as patch:
                patch.setattr(lolv2, "PIECE", 10)
                lolv2.pieces_of.cache_clear()
                assert lolv2.in_pieces(seen["point"])
                found, other = agent.act(state, seen)
            lolv2.pieces_of.cache_clear()
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(other.momenta, after.momenta, rtol=1e-12, atol=1e-14)
            state = after
    assert not lolv2.in_pieces(torch.zeros(1, 10**6)), "a graph is recorded here"
