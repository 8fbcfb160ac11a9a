"""Agents as optimizers of modules: the same steps as elsewhere, and all that users of ``torch.optim`` do."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import agents
import optenvs
from optenvs.core.errors import OracleMismatch, UnknownKeyword
from optenvs.core.struct import tensors

INPUTS = torch.linspace(-1, 1, 24).reshape(8, 3)
TARGETS = INPUTS.square().sum(-1, keepdim=True)


def module(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def loss_of(net: nn.Module) -> Tensor:
    dtype = next(net.parameters()).dtype
    return nn.functional.mse_loss(net(INPUTS.to(dtype)), TARGETS.to(dtype))


def trained(
    net: nn.Module, optimizer: Any, steps: int = 20, scheduler: Any = None, **given: Any
) -> nn.Module:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        optimizer.step(**({"loss": loss} if given.get("told") else {}))
        if scheduler is not None:
            scheduler.step()
    return net


def same(one: nn.Module, other: nn.Module, **tolerance: float) -> None:
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, **tolerance)


@pytest.mark.parametrize(
    ("agent", "make"),
    [
        (agents.Adam(lr=1e-2), lambda p: torch.optim.Adam(p, lr=1e-2)),
        (agents.SGD(lr=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (agents.RMSprop(lr=1e-2), lambda p: torch.optim.RMSprop(p, lr=1e-2)),
    ],
)
def test_textbook_rules_are_those_of_torch(agent: Any, make: Any) -> None:
    one, other = module(), module()
    trained(one, agents.to_torch(agent, one.parameters(), steps=20))
    same(one, trained(other, make(other.parameters())), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lolv2", "lstm_optimizer", "adabelief"])
def test_steps_are_those_of_a_rollout(name: str) -> None:
    agent = agents.make(name, **({"dtype": "float64"} if name != "adabelief" else {}))
    scale = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return (scale * x.square()).sum(-1) + x.sin().sum(-1)

    env = optenvs.from_function(
        value, dim=3, backend="torch", oracle="gradient", dtype="float64", budget={"gradient": 31}
    )
    run = optenvs.rollout(env, agent, steps=30, record=("point",))
    x = nn.Parameter(run.recorded["point"][0, 0].clone())
    optimizer = agents.to_torch(agent, [x], steps=30)
    for k in range(30):
        torch.testing.assert_close(x.detach(), run.recorded["point"][k, 0], rtol=1e-9, atol=1e-12)
        optimizer.zero_grad()
        value(x).backward()
        optimizer.step()


def test_features_of_a_learned_rule_are_normalised_tensor_by_tensor() -> None:
    agent = agents.LOLv2(step_multiplier=0.1, seed=3)
    one, other = module(), module()
    with torch.no_grad():  # a tensor in another unit moves the others only where they are normalised as one
        other[2].weight *= 100.0
    gradients = [torch.full_like(p, 0.1) for p in one.parameters()]
    for net in (one, other):
        before = net[0].weight.detach().clone()
        for p, g in zip(net.parameters(), gradients, strict=True):
            p.grad = g.clone()
        agents.to_torch(agent, net.named_parameters(), steps=5).step()
        assert not torch.equal(net[0].weight, before)
    torch.testing.assert_close(one[0].weight, other[0].weight)


def test_a_closure_and_a_loss_do_the_same_and_come_back() -> None:
    one, other = module(), module()
    by_closure = agents.to_torch(agents.Adam(lr=1e-2), one.parameters())
    by_loss = agents.to_torch(agents.Adam(lr=1e-2), other.parameters())

    def closure() -> Tensor:
        by_closure.zero_grad()
        loss = loss_of(one)
        loss.backward()
        return loss

    for _ in range(3):
        by_loss.zero_grad()
        loss = loss_of(other)
        loss.backward()
        assert torch.equal(by_closure.step(closure).detach(), by_loss.step(loss=loss).detach())
    same(one, other, rtol=0, atol=0)


def test_an_agent_that_reads_the_loss_is_told_it_or_says_so() -> None:
    class Polyak(agents.GradientAgent):
        """The step of Polyak (1987) for a loss whose least value is 0."""

        needs = ("gradient", "value")

        def init(self, problem: Any, observation: Any, keys: Any) -> Tensor:
            return torch.zeros_like(observation["k"])

        def act(self, state: Tensor, observation: Any) -> tuple[Tensor, Tensor]:
            slope = observation["gradient"]
            length = observation["value"] / slope.square().sum(-1, keepdim=True)
            return observation["point"] - length * slope, state

    net = module()
    optimizer = agents.to_torch(Polyak(), net.parameters())
    before = float(loss_of(net).detach())
    loss_of(net).backward()
    with pytest.raises(OracleMismatch, match=r"Polyak reads the loss: call step\(loss=loss\)"):
        optimizer.step()
    assert float(loss_of(trained(net, optimizer, told=True)).detach()) < 0.3 * before


def test_a_state_dict_resumes_bit_for_bit_through_a_file() -> None:
    for agent in (agents.Adam(lr=1e-2), agents.LOLv2()):
        whole = module()
        trained(whole, agents.to_torch(agent, whole.parameters(), steps=12), steps=12)
        half = module()
        first = agents.to_torch(agent, half.parameters(), steps=12)
        trained(half, first, steps=5)
        file = io.BytesIO()
        torch.save({"net": half.state_dict(), "optimizer": first.state_dict()}, file)
        file.seek(0)
        told = torch.load(file, weights_only=True)
        rest = module(seed=1)
        rest.load_state_dict(told["net"])
        second = agents.to_torch(agent, rest.parameters(), steps=12)
        second.load_state_dict(told["optimizer"])
        same(trained(rest, second, steps=7), whole, rtol=0, atol=0)


def test_a_copy_goes_on_as_the_original() -> None:
    net = module()
    optimizer = agents.to_torch(agents.Adam(lr=1e-2), net.parameters())
    trained(net, optimizer, steps=3)
    other, copied = copy.deepcopy((net, optimizer))
    same(trained(other, copied, steps=3), trained(net, optimizer, steps=3), rtol=0, atol=0)


def test_a_state_dict_of_another_agent_or_module_is_refused_and_nothing_is_lost() -> None:
    net = module()
    optimizer = agents.to_torch(agents.Adam(lr=1e-2), net.parameters())
    trained(net, optimizer, steps=2)
    before = optimizer.state_dict()
    wide = nn.Linear(9, 9)
    other = agents.to_torch(agents.Adam(), wide.parameters())
    wide(torch.ones(1, 9)).sum().backward()
    other.step()
    with pytest.raises(ValueError, match="state_dict: expected groups of"):
        optimizer.load_state_dict(other.state_dict())
    strange = agents.to_torch(agents.SGD(momentum=0.9), module().parameters())
    trained(net, optimizer, steps=0)
    told = before | {"param_groups": strange.state_dict()["param_groups"]}
    told["state"] = {0: {"agent.momentum": torch.zeros(1, 26)}}
    with pytest.raises(ValueError, match="state_dict: expected the memory of this agent"):
        optimizer.load_state_dict(told)
    with pytest.raises(ValueError, match="state_dict: expected that of agent Adam, got that of SGD"):
        optimizer.load_state_dict(strange.state_dict())
    torchs = torch.optim.Adam(net.parameters(), lr=1e-2)
    trained(net, torchs, steps=1)
    with pytest.raises(ValueError, match="got that of another optimizer, whose groups have capturable, "):
        optimizer.load_state_dict(torchs.state_dict())
    with pytest.raises(ValueError, match="expected state, param_groups and agent, .* got 0.weight"):
        optimizer.load_state_dict(net.state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert all(torch.equal(after["state"][0][path], value) for path, value in before["state"][0].items())


def test_groups_have_hyperparameters_of_their_own() -> None:
    one, other = module(), module()
    groups = [
        {"params": [*one[0].parameters()], "lr": 1e-3},
        {"params": [*one[2].parameters()], "weight_decay": 0.1},
    ]
    theirs = [
        {"params": [*other[0].parameters()], "lr": 1e-3},
        {"params": [*other[2].parameters()], "weight_decay": 0.1},
    ]
    trained(one, agents.to_torch(agents.Adam(lr=1e-2), groups))
    same(one, trained(other, torch.optim.Adam(theirs, lr=1e-2)), rtol=1e-5, atol=1e-6)
    with pytest.raises(UnknownKeyword, match="'weight_deacy'.*did you mean 'weight_decay'"):
        agents.to_torch(agents.Adam(), [{"params": [*one.parameters()], "weight_deacy": 0.1}])
    with pytest.raises(ValueError, match="weight_decay"):
        agents.to_torch(agents.Adam(), [{"params": [*one.parameters()], "weight_decay": -1.0}])


@pytest.mark.parametrize("agent", [agents.SGD(lr=0.1), agents.LOLv2(step_multiplier=0.1)])
def test_schedulers_change_the_rate_and_of_an_agent_without_one_the_step(agent: Any) -> None:
    net = module()
    optimizer = agents.to_torch(agent, net.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    rate = optimizer.param_groups[0]["lr"]
    assert rate == (0.1 if isinstance(agent, agents.SGD) else 1.0)
    trained(net, optimizer, steps=2, scheduler=scheduler)
    assert optimizer.param_groups[0]["lr"] == rate / 4
    still = copy.deepcopy(net)
    optimizer.param_groups[0]["lr"] = 0.0 if not isinstance(agent, agents.SGD) else 1e-30
    same(trained(net, optimizer, steps=1), still, rtol=0, atol=0)


def test_parameters_without_a_gradient_rest_and_so_does_their_memory() -> None:
    one, other = module(), module()
    # torch counts a parameter's steps by itself, ours a group's: without the correction they agree
    settings = {"lr": 1e-2, "momentum": 0.9}
    ours = agents.to_torch(agents.SGD(**settings), one.parameters())
    theirs = torch.optim.SGD(other.parameters(), **settings)
    for turn in range(6):
        for net, optimizer in ((one, ours), (other, theirs)):
            net[0].requires_grad_(turn not in (2, 3))
            trained(net, optimizer, steps=1)
    same(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["adafac_mlp", "nominal", "nn_adam", "rnn_mlp", "velo", "lstm_optimizer"])
def test_memory_of_tensors_rows_and_columns_rests_with_its_parameter(name: str) -> None:
    """Weights (5, 3), (5,), (1, 5), (1,): the second and the third have no gradient in the last step."""
    settings = {"velo": {"lstm_hidden": 10, "bank": 2}, "rnn_mlp": {"from_lstm": 26}}
    net = module(dtype=torch.float64)
    parameters = list(net.parameters())
    agent = agents.make(name, dtype="float64", **settings.get(name, {}))
    optimizer = agents.to_torch(agent, parameters, steps=9)

    def memory() -> dict[str, Tensor]:
        loss_of(net).backward()
        for still in () if len(optimizer.state) == 0 else (1, 2):
            parameters[still].grad = None
        optimizer.step(loss=loss_of(net).detach())
        return tensors(optimizer.state[parameters[0]]["memory"].agent)

    before = memory()
    after = memory()
    ends = {26: (15, 25), 4: (1, 3)}  # entries and tensors; rows are 3 + 5 + 1 + 1, columns 5 + 0 + 5 + 0
    for path, value in after.items():
        field = path.rpartition(".")[2]
        first, last = {"rows": (3, 9), "columns": (5, 10)}.get(field, ends.get(value.shape[1], (0, 0)))
        if field in ("from_lstm", "means", "least"):  # of the loss, or of all tensors at once
            first = last = 0
        moved = (value != before[path]).reshape(1, value.shape[1], -1).any(-1)[0]
        resting = torch.zeros_like(moved)
        resting[first:last] = True
        assert not bool(moved[resting].any()), path
        if field in ("momenta", "rows", "columns", "c", "from_mlp", "from_lstm", "means"):
            assert bool(moved[~resting].all()), path


def test_frozen_and_tied_weights() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    net[1].bias.requires_grad_(False)
    kept = net[1].bias.clone()
    optimizer = agents.to_torch(agents.Adam(lr=1e-2), net.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        net(INPUTS).square().mean().backward()
        optimizer.step()
    assert net[1].weight is net[0].weight and torch.equal(net[1].bias, kept)


def test_small_steps_of_narrow_parameters_add_up_and_a_write_from_outside_counts() -> None:
    x = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = agents.to_torch(agents.SGD(lr=1e-4), [x])
    for _ in range(200):  # each step is a fortieth of the spacing of bfloat16 below 1
        x.grad = torch.ones_like(x)
        optimizer.step()
    torch.testing.assert_close(x.detach().float(), torch.full((4,), 0.98), rtol=0, atol=2e-3)
    with torch.no_grad():
        x[0] = 5.0
    x.grad = torch.ones_like(x)
    optimizer.step()
    assert x[0].item() == 5.0 and abs(x[1].item() - 0.98) < 2e-3


def test_a_gradient_scaler_drives_it() -> None:
    one, other = module(), module()
    for net, optimizer in (
        (one, agents.to_torch(agents.Adam(lr=1e-2), one.parameters())),
        (other, torch.optim.Adam(other.parameters(), lr=1e-2)),
    ):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for turn in range(4):
            optimizer.zero_grad()
            loss = loss_of(net) * (torch.inf if turn == 1 else 1.0)  # a step that is left out
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    same(one, other, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_refused() -> None:
    x = nn.Parameter(torch.ones(2))
    with pytest.raises(TypeError, match="parameter 0: expected real numbers, got torch.complex64"):
        agents.to_torch(agents.Adam(), [nn.Parameter(torch.ones(2, dtype=torch.complex64))])
    with pytest.raises(OracleMismatch, match="Newton needs hessian"):
        agents.to_torch(agents.make("newton"), [x])
    with pytest.raises(OracleMismatch, match="steps without gradients"):
        agents.to_torch(agents.from_function(lambda seen: seen["point"]), [x])
    with pytest.raises(TypeError, match="agent: expected an agent"):
        agents.to_torch("adam", [x])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps: expected a whole number >= 1 or None, got 0"):
        agents.to_torch(agents.Adam(), [x], steps=0)
    with pytest.raises(ValueError, match="lr: expected one number, got 2"):
        agents.to_torch(agents.Adam(lr=torch.tensor([0.1, 0.2])), [x])
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = agents.to_torch(agents.Adam(), table.parameters())
    table(torch.tensor([1])).sum().backward()
    before = table.weight.detach().clone()
    with pytest.raises(TypeError, match=r"gradient: expected a dense tensor, got torch.sparse_coo"):
        optimizer.step()
    assert torch.equal(table.weight, before)
    with pytest.raises(TypeError, match="expected a closure or a loss, got both"):
        agents.to_torch(agents.Adam(), [x]).step(lambda: 1.0, loss=1.0)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_rate_may_begin_at_nothing(name: str) -> None:
    net = module()
    optimizer = agents.to_torch(agents.make(name, lr=0.1), net.parameters(), steps=9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: epoch / 4)
    before = [p.clone() for p in net.parameters()]
    trained(net, optimizer, 1)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    scheduler.step()
    trained(net, optimizer, 1)
    assert not any(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def test_a_group_without_parameters_and_a_rate_that_rises_and_falls() -> None:
    net = module()
    groups = [{"params": []}, {"params": list(net.parameters())}]
    optimizer = agents.to_torch(agents.Adam(), groups, steps=9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=5, cycle_momentum=False
    )
    for _ in range(4):
        trained(net, optimizer, 1)
        scheduler.step()
    assert len(optimizer.state_dict()["state"]) == 1
