"""Learned optimizers over tensors and anchors: their formulas, a set of weights a row, disk, and modules."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import agents
import optenvs
from agents.learned import lolv2
from agents.learned.velo import Losses
from optenvs.core import keys_from_seed
from optenvs.core.random import normal
from optenvs.core.struct import tensors

NET = optenvs.make("TrainDigits", widths=(3,), samples=40, batch_size=8, dtype="float64")
KEYS = keys_from_seed(0, 2)
QUADRATIC = optenvs.make("Quadratic", dim=5, tolerance=None, dtype="float64")
TINY: dict[str, dict[str, object]] = {
    "adafac_mlp": {"step_multiplier": 0.05},
    "learnable_adam": {"initial_lr": 0.02},
    "learnable_sgd": {"initial_momentum": 0.5},
    "nn_adam": {"hidden": 3, "output_scale": 0.1, "initial_lr": 0.02},
    "nominal": {
        "hidden": 2,
        "nominal_rate": 0.02,
        "weight_decay": 0.01,
        "nominal_control": True,
        "decay_control": True,
        "exp_multiplier": 0.1,
    },
    "li_malik": {"hidden": 3, "history": 2, "sample": False, "scale": 0.01},
    "open": {"memory": 3, "hidden": 2, "noise": False, "step_multiplier": 0.05},
    "rnn_mlp": {
        "hidden": 3,
        "lstm_hidden": 4,
        "from_mlp": 2,
        "from_lstm": 3,
        "to_mlp": 2,
        "step_multiplier": 0.05,
    },
    "sum": {"first": "adafac_mlp", "second": "learnable_adam"},
    # weights about 0.3, a hundredfold and in three layers, answer numbers about 1e4
    "velo": {
        "lstm_hidden": 4,
        "bank": 3,
        "hidden": 2,
        "step_multiplier": 1e-6,
        "exp_multiplier": 1e-6,
    },
}
"""Settings with which a few steps show what a rule does; drawn weights are of float64."""


def tiny(name: str, **more: object) -> agents.Agent:
    return agents.make(name, **({"dtype": "float64"} | TINY[name] | more))


def moved(agent: agents.Agent, by: float = 0.3, seed: int = 0) -> agents.Agent:
    """With its weights, also those that begin at 0, drawn about where they begin."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in agent.parameters():
            value += by * torch.randn(value.shape, dtype=value.dtype, generator=generator)
    return agent


@pytest.mark.parametrize("name", TINY)
def test_a_set_of_weights_a_row(name: str, tmp_path) -> None:
    """Three rules as one agent are the three rules, forward and in their slopes, and to and from disk."""
    rules = [moved(tiny(name), seed=seed) for seed in range(3)]
    sets = torch.stack([rule.flat for rule in rules]).detach()
    population = rules[0].replace(weights=sets)
    population.save(tmp_path / "rules")
    loaded = type(population).load(tmp_path / "rules")
    assert torch.equal(loaded.weights, sets)
    keys = keys_from_seed(0, 3)
    leaf = sets.clone().requires_grad_()
    run = optenvs.unroll(NET, loaded.replace(weights=leaf), keys=keys, steps=4)
    assert not torch.allclose(run.merit[-1, 0], run.merit[-1, 1])
    (slopes,) = torch.autograd.grad(run.merit[-1].sum(), leaf)
    assert slopes.isfinite().all()
    for row, rule in enumerate(rules):
        alone = optenvs.unroll(NET, rule, keys=keys[row : row + 1], steps=4)
        torch.testing.assert_close(run.merit[:, row], alone.merit[:, 0], rtol=1e-9, atol=1e-12)
        parts = torch.autograd.grad(
            alone.merit[-1].sum(), list(rule.parameters()), allow_unused=True, materialize_grads=True
        )
        torch.testing.assert_close(
            slopes[row], torch.cat([part.flatten() for part in parts]), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("name", TINY)
def test_steps_of_a_module_are_those_of_a_rollout(name: str) -> None:
    """Tensors and their shapes are those of the problem's layout, on either side."""
    agent = moved(tiny(name))
    keys = keys_from_seed(1, 1)
    run = optenvs.rollout(NET, agent, keys=keys, steps=4, record=("point", "gradient", "value"))
    point = run.recorded["point"][0, 0]
    layout = NET.network.layout
    sizes = [slot.size for slot in layout]
    params = [
        nn.Parameter(part.reshape(slot.shape).clone())
        for part, slot in zip(point.split(sizes), layout, strict=True)
    ]
    optimizer = agents.to_torch(agent, params, steps=int(NET.horizon))
    for k in range(4):
        here = torch.cat([p.detach().flatten() for p in params])
        torch.testing.assert_close(here, run.recorded["point"][k, 0], rtol=1e-9, atol=1e-12)
        for p, part in zip(params, run.recorded["gradient"][k, 0].split(sizes), strict=True):
            p.grad = part.reshape(p.shape).clone()
        optimizer.step(loss=run.recorded["value"][k, 0])


@pytest.mark.parametrize("name", ["adafac_mlp", "velo"])
def test_a_large_point_in_pieces_is_the_point_as_a_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of 0 to 3 axes, smaller and larger than a piece; three rows at different times."""
    agent = moved(tiny(name, step_multiplier=1e-3))
    shapes = ((7, 5), (1,), (), (3, 4, 2), (2, 11), (5, 1))
    layout = [SimpleNamespace(shape=shape, size=math.prod(shape)) for shape in shapes]
    problem, key = SimpleNamespace(model=SimpleNamespace(layout=layout)), keys_from_seed(0, 3)
    count = sum(slot.size for slot in layout)
    seen = {name: normal(key, name, count, dtype=torch.float64) for name in ("point", "gradient")}
    seen["k"] = torch.tensor([[0.0], [3.0], [50.0]], dtype=torch.float64)
    seen |= {"N": torch.full_like(seen["k"], 99.0), "value": seen["k"] + 1}
    with torch.no_grad():
        state = agent.init(problem, seen, key)
        for _ in range(3):
            expected, after = agent.act(state, seen)
            with monkeypatch.context() as patch:
                patch.setattr(lolv2, "PIECE", 10)
                assert lolv2.in_pieces(seen["point"])
                found, other = agent.act(state, seen)
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
            for one, two in zip(tensors(other).values(), tensors(after).values(), strict=True):
                torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)
            state = after
        assert not torch.allclose(found, seen["point"], rtol=0, atol=1e-9)


# Adafactor's features --------------------------------------------------------------------------

SHAPES = ((2, 3), (3,), (), (2, 4, 3))


def drawn(shapes: tuple[tuple[int, ...], ...] = SHAPES, rows: int = 2) -> tuple[SimpleNamespace, dict, list]:
    """A problem with such tensors, what it answers, and the tensors of the gradient of its second row."""
    slots = [SimpleNamespace(shape=shape, size=math.prod(shape)) for shape in shapes]
    size = sum(slot.size for slot in slots)
    key = keys_from_seed(0, rows)
    seen = {name: normal(key, name, size, dtype=torch.float64) for name in ("point", "gradient")}
    seen |= {"k": torch.full((rows, 1), 7.0, dtype=torch.float64)}
    parts = seen["gradient"][1].split([slot.size for slot in slots])
    tensors = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return SimpleNamespace(model=SimpleNamespace(layout=slots)), seen, tensors


def test_all_39_inputs_of_adafac_are_those_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, seen, gradients = drawn()
    agent = agents.AdafacMLP(dtype="float64")
    told = []
    monkeypatch.setattr(agents.AdafacMLP, "run", lambda self, x: told.append(x) or x[..., :2])
    memory = agent.init(problem, seen, KEYS)
    _, memory = agent.act(memory, seen | {"gradient": 2 * seen["gradient"]})
    agent.act(memory, seen)
    assert told[1].shape == (2, 34, 39)
    points = seen["point"][1].split([g.numel() for g in gradients])
    times = [math.tanh(7 / c - 1) for c in (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)]
    for g, p, found in zip(gradients, points, told[1][1].split([g.numel() for g in gradients]), strict=True):
        # two steps: 2g, then g
        momenta = [(b * 2 + 1) * (1 - b) * g for b in (0.9, 0.99, 0.999)]
        rms = (0.999 * 4 + 1) * 0.001 * g**2
        columns = [g, p.reshape(g.shape), *momenta, rms]
        columns += [m / (rms + 1e-6).sqrt() for m in momenta] + [(rms + 1e-6) ** -0.5]
        scaled, rows, cols, of_momenta = [], [], [], []
        for b, m in zip((0.9, 0.99, 0.999), momenta, strict=True):
            v = (b * 4 + 1) * (1 - b) * g**2
            if g.ndim < 2:
                row = col = v
                scaled.append(g / (v + 1e-9).sqrt())
                of_momenta.append(m / (v + 1e-6).sqrt())
            else:  # (2, 3): largest axis 1, then 0; (2, 4, 3): largest axis 1, then 2
                largest, second = (1, 0) if g.ndim == 2 else (1, 2)
                row, col = v.mean(largest, keepdim=True), v.mean(second, keepdim=True)
                factor = (row / (row.mean(second, keepdim=True) + 1e-9) * col) ** -0.5
                scaled.append(g * factor)
                of_momenta.append(m * factor)
            rows.append(row.expand_as(g))
            cols.append(col.expand_as(g))
        columns += scaled + rows + cols
        columns += [(x + 1e-8) ** -0.5 for x in rows + cols] + of_momenta
        assert len(columns) == 28
        columns = [x / (1e-5 + (x**2).mean()).sqrt() for x in columns]
        expected = torch.stack([x.flatten() for x in columns], -1)
        expected = torch.cat((expected, torch.tensor(times, dtype=torch.float64).expand(g.numel(), -1)), -1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_sizes_of_adafac() -> None:
    agent = agents.AdafacMLP()
    assert sum(p.numel() for p in agent.net.mlp.parameters()) == 190
    assert agent.size == 190 + 7
    port = agents.AdafacMLP(hidden=32, step_multiplier=0.01)
    assert sum(p.numel() for p in port.net.mlp.parameters()) == 2402
    assert agents.Nominal().size == 197
    assert agents.Nominal(nominal_control=True, weight_decay=0.1, decay_control=True).size == 207


def test_a_rank_one_gradient_is_preconditioned_to_its_signs() -> None:
    problem, seen, _ = drawn(((4, 6), (5,)))
    left, right = seen["point"][:, :4].unsqueeze(2), seen["point"][:, 4:10].unsqueeze(1)
    seen["gradient"] = torch.cat(((left * right).flatten(1), seen["gradient"][:, 24:]), 1)
    agent = agents.AdafacMLP(dtype="float64")
    memory = agent.init(problem, seen, KEYS).updated(seen["gradient"], agent.rests(seen["point"]))
    assert (memory.rows.shape, memory.columns.shape) == ((2, 4 + 5, 3), (2, 6, 3)), "they are kept factored"
    found = memory.features(seen["point"], seen["gradient"], 1e-6)["factored_gradient"]
    scaled = found * torch.tensor([0.1, 0.01, 0.001], dtype=torch.float64).sqrt()
    expected = seen["gradient"].sign().unsqueeze(-1).expand_as(scaled)
    torch.testing.assert_close(scaled[:, :24], expected[:, :24], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scaled[:, 24:], expected[:, 24:], rtol=1e-3, atol=1e-3)  # by entry, + 1e-9


def test_decays_are_weights() -> None:
    agent = agents.AdafacMLP(dtype="float64")
    like = torch.zeros(1, dtype=torch.float64)
    with torch.no_grad():
        agent.net.decays.momentum_decays.copy_(torch.tensor([0.0, 0.05, 9.0]))
    momenta, squares, _ = agent.rests(like)
    expected = torch.tensor([[0.1, 0.01 * math.exp(0.5), 1.0]], dtype=torch.float64)  # a decay is never < 0
    torch.testing.assert_close(momenta, expected)
    torch.testing.assert_close(squares, torch.tensor([[0.001]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "size", "change"), [(agents.LOLv2, 1e4, 0.01), (agents.AdafacMLP, 1e2, 0.1)]
)
def test_a_scaled_loss_hardly_changes_a_step(make, size: float, change: float) -> None:
    """Through the epsilons alone: the slowest momentum must be far above them, too.

    Of Adafactor's inputs the reciprocals of second moments fall under them.
    """
    problem, seen, _ = drawn()
    seen["gradient"] = size * seen["gradient"]
    agent = make(dtype="float64")
    with torch.no_grad():
        memory = agent.init(problem, seen, KEYS)
        scaled = seen | {"gradient": 100 * seen["gradient"]}
        one, other = (agent.act(memory, asked)[0] - seen["point"] for asked in (seen, scaled))
    assert (other - one).norm() < change * one.norm()


def test_a_step_is_bounded_by_what_the_network_says() -> None:
    problem, seen, _ = drawn()
    agent = agents.AdafacMLP(dtype="float64")
    memory = agent.init(problem, seen, KEYS)
    with torch.no_grad():
        action, state = agent.act(memory, seen)
        direction, magnitude = agent.answered(state, agent.seen(state, seen), seen).abs().unbind(-1)
    step = (action - seen["point"]).abs()
    assert step.max() > 1e-6
    assert (step <= 1e-3 * direction * torch.exp(1e-3 * magnitude) + 1e-15).all()


def test_a_nominal_step_without_its_correction_is_the_textbooks() -> None:
    problem, seen, _ = drawn()
    g, x = seen["gradient"], seen["point"]
    scaled = [m * g / (0.001 * g**2 + 1e-6).sqrt() for m in (0.1, 0.01, 0.001)]
    steps = {
        "adam": scaled[2],
        "adam_aggmo": sum(scaled) / 3,
        "aggmo": (0.1 + 0.01 + 0.001) / 3 * g,
        "sgd": g,
        "sgdm": 0.001 * g,
    }
    for nominal, step in steps.items():
        agent = agents.Nominal(
            nominal=nominal, nominal_rate=0.5, weight_decay=0.1, step_multiplier=1e-30, dtype="float64"
        )
        action, _ = agent.act(agent.init(problem, seen, KEYS), seen)
        torch.testing.assert_close(action.detach(), 0.9 * x - 0.5 * step)


# An LSTM a tensor -------------------------------------------------------------------------------


def _log(x: torch.Tensor) -> float:
    return min(max(math.log(1e-8 + abs(float(x))), -5.0), 5.0)


def _sign(x: torch.Tensor) -> float:
    return float(x.sign())


def _variance(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean()).square().mean()


def test_nn_adam_begins_as_adam_and_moves_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, seen, gradients = drawn()
    agent = agents.NNAdam(dtype="float64", initial_lr=0.1)
    assert agent.size == 6656 + 132 + 4 + 64  # LSTM, what it moves, where both start
    memory = agent.init(problem, seen, KEYS)
    told = []
    run = agents.NNAdam.run
    monkeypatch.setattr(agents.NNAdam, "run", lambda self, *x: told.append(x[0]) or run(self, *x))
    with torch.no_grad():
        agent.net.moves.bias.copy_(torch.tensor([1.0, 2.0, 300.0, -1.0]))
        action, after = agent.act(memory, seen)
    g, x = seen["gradient"], seen["point"]
    step = 0.1 * (1 + 1e-8) * (0.1 * g) / (1e-8 + (0.001 * g**2 + 1e-10).sqrt())
    torch.testing.assert_close(action, x - step)
    logs = 10 * after.controls
    expected = [math.log(0.1) + 0.1, math.log(0.1) + 0.2, 0.0, math.log(1e-8) - 0.1]  # a beta is never < 0
    torch.testing.assert_close(logs, torch.tensor(expected, dtype=torch.float64).expand_as(logs))
    points = x[1].split([part.numel() for part in gradients])
    for t, (g, p) in enumerate(zip(gradients, points, strict=True)):
        m, v = 0.1 * g, 0.001 * g**2
        z = [math.log(number) / 10 / 5 for number in (0.1, 0.001, 1e-8, 0.1)]
        kind = [1.0 if g.ndim == rank else -1.0 for rank in (1, 0)]
        means = [g.mean(), g.abs().mean(), m.mean(), p.mean(), v.mean()]
        g_log, g_abs, m_log, p_log, v_log = (0.5 * _log(mean) for mean in means)
        columns = [*z[:3], *kind, z[3], g_log, _sign(g.mean()), g_abs, m_log, _sign(m.mean())]
        columns += [p_log, _sign(p.mean()), v_log, 1.0, *(0.5 * _log(_variance(y)) for y in (g, m, p, v))]
        torch.testing.assert_close(told[0][1, t], torch.tensor(columns, dtype=torch.float64))


def test_what_rnn_mlp_sees_is_what_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, seen, gradients = drawn()
    seen["value"] = torch.tensor([[2.0], [-3.0]], dtype=torch.float64)
    agent = agents.RNNMLP(dtype="float64")
    assert agent.size == 29952 + 1105 + 1170 + 3410 + 162  # LSTM, both messages, MLP, starts
    told = []
    run = agents.RNNMLP.run
    monkeypatch.setattr(agents.RNNMLP, "run", lambda self, *x: told.append(x) or run(self, *x))
    memory = agent.init(problem, seen, KEYS)
    with torch.no_grad():
        action, after = agent.act(memory, seen)
        answer, *_ = run(agent, *told[0])
    tensors, _, _, parameters, sizes = told[0]
    starts = [agent.net.starts.from_lstm, agent.net.starts.from_mlp]
    decays = torch.tensor([0.5, 0.9, 0.99, 0.999, 0.9999], dtype=torch.float64)
    points = [p.reshape(g.shape) for p, g in zip(seen["point"][1].split(sizes), gradients, strict=True)]
    found = parameters[1].split(sizes)
    for t, (g, v) in enumerate(zip(gradients, points, strict=True)):
        m, rms = ((1 - decays) * y.unsqueeze(-1) for y in (g, g**2))
        shape = [*g.shape, 1, 1, 1, 1][:4]
        columns = [_log(g.norm()), 1.0 if g.ndim == 0 else -1.0, _log(m.mean()), _sign(m.mean())]
        columns += [_log(rms.mean()), 1.0, _log(v.mean()), _sign(v.mean()), _log(v.norm())]
        columns += [math.log(size) - 1 for size in shape]
        # the first loss is its own mean; its variance is 0.81 of its square
        columns += [
            0.0,
            3 / math.sqrt(0.81 * 9),
            _log(_variance(m)),
            _log(_variance(rms)),
            _log(_variance(v)),
        ]
        expected = torch.cat([*starts, torch.tensor(columns, dtype=torch.float64)]).detach()
        torch.testing.assert_close(tensors[1, t], expected, rtol=1e-6, atol=1e-6)
        flat, m, rms = g.reshape(-1, 1), m.reshape(-1, 5), rms.reshape(-1, 5)
        roots = (rms + 1e-6) ** -0.5
        v = v.reshape(-1, 1)
        moments = torch.cat((flat, v, (v.abs() + 1e-8).log(), m, rms, m * roots, roots), 1)
        moments = moments / (1e-5 + moments.square().mean(0)).sqrt()
        times = (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)
        rest = [math.sin(7 / (math.pi * c)) for c in times]
        rest += [math.log(4) - 1, math.log(float(v.norm()) + 1e-8), math.log(len(v))]
        rest = torch.tensor(rest, dtype=torch.float64).expand(len(v), -1)
        torch.testing.assert_close(found[t], torch.cat((moments, rest), 1))
    step = 1e-3 * answer[..., 0] * torch.exp(1e-3 * answer[..., 1])
    torch.testing.assert_close(action, seen["point"] - step)
    sent = torch.stack([part.mean(0) for part in answer[1, :, 2:].split(sizes)])
    torch.testing.assert_close(after.from_mlp[1], sent)


def test_rnn_mlp_clips_gradients_by_their_size_so_far() -> None:
    problem, seen, _ = drawn()
    seen["value"] = seen["k"]
    agent = agents.RNNMLP(dtype="float64")
    _, after = agent.act(agent.init(problem, seen, KEYS), seen | {"gradient": 1e6 * seen["gradient"]})
    torch.testing.assert_close(after.momenta[..., 0].detach(), 5.0 * seen["gradient"].sign())
    expected = (0.99 * 0.01 + 0.01 * 10) * torch.ones_like(after.norm)
    torch.testing.assert_close(after.norm, expected)


# Sums -----------------------------------------------------------------------------------------


def test_a_sum_takes_both_steps() -> None:
    problem, seen, _ = drawn()
    parts = agents.Adam(lr=0.1), agents.LOLv2(dtype="float64")
    both = agents.Sum(first=parts[0], second=parts[1])
    assert torch.equal(both.flat, parts[1].flat)
    with torch.no_grad():
        found, _ = both.act(both.init(problem, seen, KEYS), seen)
        steps = [part.act(part.init(problem, seen, KEYS), seen)[0] - seen["point"] for part in parts]
    torch.testing.assert_close(found, seen["point"] + steps[0] + steps[1])
    with pytest.raises(ValueError, match="Sum: second: expected a learned agent where the first is none"):
        agents.Sum(first="adam", second="sgd")
    with pytest.raises(TypeError, match="Sum: first: expected an agent with one set of weights or its name"):
        agents.Sum(first=3)


# VeLO ------------------------------------------------------------------------------------------


def _velo_inputs(monkeypatch: pytest.MonkeyPatch, agent: agents.Agent, seen: dict, problem: object) -> list:
    """What the network is asked in two steps, with the gradient and then its double."""
    told = []
    run = agents.VeLO.run
    monkeypatch.setattr(agents.VeLO, "run", lambda self, *x: told.append(x) or run(self, *x))
    memory = agent.init(problem, seen, KEYS)
    with torch.no_grad():
        _, memory = agent.act(memory, seen)
        told.append(agent.act(memory, seen | {"gradient": 2 * seen["gradient"]})[0])
    return [*told, memory]


def test_velo_is_what_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, seen, gradients = drawn()
    seen |= {"value": torch.ones(2, 1, dtype=torch.float64), "N": torch.full_like(seen["k"], 20.0)}
    agent = agents.VeLO(lstm_hidden=5, bank=7, dtype="float64")
    assert sum(p.numel() for p in agent.net.bank.parameters()) == 159 * 7
    moved(agent, 0.1)
    _, asked, action, memory = _velo_inputs(monkeypatch, agent, seen, problem)
    tensors, h, c, parameters, sizes = asked
    assert (tensors.shape, parameters.shape) == ((2, 4, 30), (2, 34, 30))
    assert torch.equal(h, memory.h)
    assert not torch.equal(h, agent.net.starts.h.expand_as(h)), "the LSTM goes on"
    points = [p.reshape(g.shape) for p, g in zip(seen["point"][1].split(sizes), gradients, strict=True)]
    times = [math.tanh(10 * (7 / 20 - c)) for c in (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)]
    places = list(parameters[1].split(sizes))
    for t, (g, p) in enumerate(zip(gradients, points, strict=True)):
        unit = p.square().mean().sqrt()  # of the averages before the second gradient
        momenta, rms = [x * g / unit for x in (0.1, 0.01, 0.001)], 0.001 * g**2 / unit
        about = [(rms - m.mean()).square().mean() for m in momenta]
        columns = [*times, *[0.0] * 9, 0.5 * _log(10 * rms.mean())]
        columns += [float(sum(axis > 1 for axis in g.shape) == rank) for rank in range(5)]
        columns += [0.5 * _log(10 * _variance(m)) for m in momenta] + [0.5 * _log(10 * x) for x in about]
        torch.testing.assert_close(tensors[1, t], torch.tensor(columns, dtype=torch.float64))
        rms, m = (0.999 + 4) * 0.001 * g**2, (0.9 + 2) * 0.1 * g
        own = [
            2 * g,
            (2 * g).clamp(-0.1, 0.1),
            p,
            m,
            rms,
            m / (rms + 1e-6).sqrt(),
            2 * g / (rms + 1e-6).sqrt(),
        ]
        for column, x in zip((0, 1, 2, 3, 6, 7, 14), own, strict=True):
            x = (x / (1e-5 + x.square().mean()).sqrt()).flatten()
            torch.testing.assert_close(places[t][:, column], x, rtol=1e-6, atol=1e-9)
    # the hypernetwork, tensor by tensor
    net = agent.net
    with torch.no_grad():
        mixed = net.enter(tensors) + torch.relu(net.mix(tensors)).max(1, keepdim=True).values
        h, c = net.cell(mixed, h, c)
        controls, rate = net.controls(h)[1], net.rate(h)[1, :, 0]
        for t, p in enumerate(points):
            x = places[t]
            for layer in range(3):
                bank, bias = (net.bank.get_parameter(f"{name}{layer}") for name in ("weight", "bias"))
                weight = 100 * (controls[t, :, None, None] * bank).mean(0)
                x = (x.relu() if layer else x) @ weight.T + 100 * (controls[t, :, None] * bias).mean(0)
            size = (p.square().mean() + 1e-9).sqrt()
            step = 1e-3 * rate[t] * x[:, 0] * torch.exp(1e-3 * x[:, 1]) * size
            found = (seen["point"][1] - action[1]).split(sizes)[t]
            torch.testing.assert_close(found, step)


def test_velo_places_losses_between_their_least_and_slower_means() -> None:
    """Ten means, written as the library writes them."""
    steps = torch.tensor([[50.0]], dtype=torch.float64)
    state = Losses(*(torch.full((1, 10), x, dtype=torch.float64) for x in (0.0, 1e12)), 0 * steps)
    decays = torch.exp(-1 / torch.logspace(1, math.log10(50), 10, dtype=torch.float64))
    means, least = torch.zeros(10, dtype=torch.float64), torch.full((10,), 1e12, dtype=torch.float64)
    for k, loss in enumerate((3.0, 2.5, 100.0, 1.0, 1.5, 0.2)):
        state = state.updated(torch.tensor([[loss]], dtype=torch.float64), steps)
        most = 2 * (means / (1 - decays ** (k + 1))).max().abs()
        loss = loss if k == 0 else min(loss, float(most))  # 100 is cut off
        means = means * decays + loss * (1 - decays)
        mean = means / (1 - decays ** (k + 1))
        least = torch.minimum(least, mean)
        placed = (mean[:-1] - least[:-1]) / (mean[1:] - least[:-1]).clamp_min(1e-8) - 1
        expected = placed.clamp(-1, 1) if k >= 2 else torch.zeros(9, dtype=torch.float64)
        torch.testing.assert_close(state.features(steps)[0], expected)
        assert k < 2 or expected.abs().max() > 0


def test_the_flags_of_velos_released_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, seen, _ = drawn()
    seen |= {"value": torch.ones(2, 1, dtype=torch.float64), "N": torch.full_like(seen["k"], 1000.0)}
    agent = moved(agents.VeLO(lstm_hidden=3, bank=2, dtype="float64", bugged_lstm_state=True))
    _, asked, _, _ = _velo_inputs(monkeypatch, agent, seen, problem)
    assert torch.equal(asked[1], agent.net.starts.h.detach().expand_as(asked[1]))
    plain, bugged = (
        agent.replace(bugged_loss_features=flag).act(agent.init(problem, seen, KEYS), seen)[1].losses.means
        for flag in (False, True)
    )
    ten = torch.full((2, 10), 1 - math.exp(-0.1), dtype=torch.float64)
    torch.testing.assert_close(bugged, ten)
    torch.testing.assert_close(plain[:, 0], ten[:, 0])
    torch.testing.assert_close(plain[:, 9], torch.full_like(ten[:, 0], 1 - math.exp(-0.001)))


def test_velo_must_know_how_long_it_trains() -> None:
    endless = QUADRATIC.replace(budget=None)
    agent = tiny("velo")
    with pytest.raises(ValueError, match="VeLO: steps: expected the number of steps N, which this problem"):
        optenvs.rollout(endless, agent, steps=3)
    told = optenvs.rollout(endless, agent.replace(steps=200), steps=3).merit
    assert torch.equal(optenvs.rollout(QUADRATIC.replace(budget=201), agent, steps=3).merit, told)
    other = optenvs.rollout(endless, agent.replace(steps=7), steps=3).merit
    assert not torch.equal(other, told)
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    with pytest.raises(ValueError, match="to_torch: steps=N"):
        agents.to_torch(agent, [weight]).step(loss=1.0)


# Anchors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learnable", "plain"),
    [
        (agents.LearnableSGD(initial_lr=0.02, dtype="float64"), agents.SGD(lr=0.02)),
        (
            agents.LearnableSGD(initial_lr=0.02, initial_momentum=0.9, dtype="float64"),
            agents.SGD(lr=0.02, momentum=0.9),
        ),
        (
            agents.LearnableAdam(
                initial_lr=0.02, initial_betas=(0.8, 0.99), initial_eps=1e-3, dtype="float64"
            ),
            agents.Adam(lr=0.02, betas=(0.8, 0.99), eps=1e-3),
        ),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_learnable_anchors_begin_as_the_textbooks(learnable: agents.Agent, plain: agents.Agent) -> None:
    runs = [optenvs.rollout(QUADRATIC, agent, batch=3, steps=20).merit for agent in (learnable, plain)]
    torch.testing.assert_close(*runs, rtol=1e-10, atol=1e-14)


def test_weights_of_anchors_are_logarithms() -> None:
    count = {name: agents.make(name).size for name in ("learnable_adam", "learnable_sgd")}
    assert count == {"learnable_adam": 4, "learnable_sgd": 1}
    agent = agents.LearnableAdam(dtype="float64")
    logs = [math.log(x) for x in (1e-3, 0.1, 0.001, 1e-8)]
    torch.testing.assert_close(agent.flat.detach(), torch.tensor(logs, dtype=torch.float64))
    # far outside, a decay rate is held where it has a slope
    for shift in (-100.0, 100.0):
        wild = agents.LearnableAdam(dtype="float64")
        with torch.no_grad():
            wild.net.log_rests += shift
        run = optenvs.unroll(QUADRATIC, wild, batch=2, steps=3)
        slopes = torch.autograd.grad(run.merit.sum(), list(wild.parameters()))
        assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agents.LearnableSGD(initial_lr=0.0), "LearnableSGD: initial_lr: expected a number > 0"),
        (
            lambda: agents.LearnableSGD(initial_momentum=1.0),
            r"initial_momentum: expected a number in \(0, 1\)",
        ),
        (
            lambda: agents.LearnableAdam(initial_betas=(0.9,)),
            r"initial_betas: expected 2 numbers in \(0, 1\)",
        ),
        (lambda: agents.LearnableAdam(initial_eps=-1.0), "initial_eps: expected a number > 0, got -1.0"),
        (lambda: agents.AdafacMLP(momentum_decays=(1.0,)), r"momentum_decays: expected numbers in \[0, 1\)"),
        (lambda: agents.AdafacMLP(factor_decays=(0.9,)), "factor_decays: expected 3 numbers, got"),
        (lambda: agents.Nominal(nominal="adagrad"), "Nominal: nominal: expected one of adam, adam_aggmo"),
        (lambda: agents.NNAdam(initial_lr=1e4), r"initial_lr: expected a number in \[1e-08, 1000\]"),
        (lambda: agents.NNAdam(initial_betas=(0.9, 1.0)), "initial_betas: expected two numbers in"),
        (lambda: agents.RNNMLP(to_mlp=0), "RNNMLP: to_mlp: expected a whole number >= 1, got 0"),
        (lambda: agents.VeLO(lstm_hidden=2, bank=1, steps=0), "steps: expected a whole number >= 1 or None"),
        (lambda: agents.Nominal(decay_control=True), "decay_control: expected a weight_decay > 0 with it"),
    ],
)
def test_bad_input_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
