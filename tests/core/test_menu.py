"""Menus: what is wanted is answered and billed, by row, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from menu_problems import LENGTHS, Program, objective, slope
from torch import Tensor

import agents
import optenvs
from agents.asking import Notes
from optenvs.core import State
from optenvs.core.checker import CheckFailed
from optenvs.core.menu import Kind, Menu, Query
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.struct import rows, tensors

KINDS = ("value", "constraints", "gradient", "jacobian", "lagrangian", "product", "products", "likelihood")
UNITS = (*KINDS[:7], "hvp", "likelihood", "tokens")


def begun(batch: int = 3, **keywords: Any) -> tuple[Program, State]:
    env = Program(**keywords)
    return env, env.reset(keys_from_seed(0, batch))


def ask(env: Program, state: State, wanted: dict[str, Any], **places: Tensor) -> State:
    if not places:
        places = {"x": normal(state.key, "asked", env.dim, dtype=env.torch_dtype)}
    return env.step(state, state.problem.menu.query(wanted, **places))


def bill(before: State, after: State) -> list[dict[str, int]]:
    """What each row was billed, by unit."""
    spent = (after.calls.counts - before.calls.counts).tolist()
    return [{u: n for u, n in zip(after.calls.kinds, row, strict=True) if n} for row in spent]


def test_what_is_declared() -> None:
    env = Program()
    assert env.oracles == KINDS
    assert tuple(env.bill) == UNITS
    assert env.bill == dict.fromkeys(UNITS, 1) | {"hvp": 3, "tokens": 3}
    assert env.first_bill == {"value": 1, "gradient": 1}
    assert env.least_bill == env.bill
    assert not env.fixed_cost
    assert set(env.action_space) == {"x", "multipliers", "vector", "block", "document", "want"}
    assert env.action_space["want"].shape == (8,)
    assert env.observation_space["products"].shape == (3, 4)
    assert env.observation_space["value"].shape == (1,)
    assert env.limits == {"value": 1000}


def test_it_keeps_the_contract() -> None:
    report = optenvs.check(Program(), batch=3, steps=3)
    assert {"menu", "slopes", "gradients", "vmap"} <= set(report.passed)


def test_reset_asks_value_and_gradient() -> None:
    env, state = begun()
    assert bill(env.reset(state.key), state) == [{}] * 3
    assert {u: n.tolist() for u, n in state.calls.items() if n.any()} == {
        "value": [1] * 3,
        "gradient": [1] * 3,
    }
    assert state.observation["answered"].tolist() == [[1, 0, 1, 0, 0, 0, 0, 0]] * 3
    x = state.observation["x"]
    assert torch.equal(state.observation["gradient"], slope(state.hidden, x))
    assert not state.observation["constraints"].any()


def test_each_row_gets_and_pays_what_it_wants() -> None:
    env, state = begun()
    masks = {
        "value": torch.tensor([True, False, False]),
        "jacobian": torch.tensor([False, True, False]),
        "products": torch.tensor([False, True, False]),
    }
    x = normal(state.key, "asked", 4)
    block = normal(state.key, "block", (3, 4))
    after = ask(env, state, masks, x=x, block=block)
    assert bill(state, after) == [{"value": 1}, {"jacobian": 1, "products": 1, "hvp": 3}, {}]
    shown = after.observation
    assert torch.equal(shown["value"][:1, 0], objective(state.hidden, x)[:1])
    assert not shown["value"][1:].any()
    curvature = torch.diag_embed(state.hidden + x * x)
    assert torch.allclose(shown["products"][1], block[1] @ curvature[1])
    assert not shown["products"][[0, 2]].any()
    assert not shown["gradient"].any()
    assert torch.equal(shown["x"], x)
    assert shown["answered"].tolist() == [[1] + [0] * 7, [0, 0, 0, 1, 0, 0, 1, 0], [0] * 8]


@pytest.mark.parametrize("batch", [1, 3])
def test_who_writes_into_an_answer_or_a_query_changes_no_other(batch: int) -> None:
    env, state = begun(batch)
    asked = state.problem.menu.query({"value": True}, x=state.observation["x"])
    shown = env.step(state, asked).observation
    for part in (*shown.values(), *asked.values()):
        part.fill_(7)
    again = state.problem.menu.query({"value": True}, x=torch.zeros(batch, env.dim))
    assert again["want"].tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]] * batch
    after = env.step(state, again).observation
    assert all(not after[kind].any() for kind in KINDS[1:])


def test_who_writes_into_an_answer_does_not_change_the_instance() -> None:
    env = optenvs.make("ConstrainedQuadratic", dim=2, equalities=1)
    state = env.reset(keys_from_seed(0, 2))
    query = state.problem.menu.query({"jacobian": True, "hessian": True}, x=state.observation["x"])
    shown = env.step(state, query).observation
    kept = {kind: shown[kind].clone() for kind in ("jacobian", "hessian")}
    for kind in kept:
        shown[kind].zero_()
    again = env.step(state, query).observation
    assert all(torch.equal(again[kind], answer) for kind, answer in kept.items())


def test_a_price_may_depend_on_row_and_query() -> None:
    env, state = begun()
    document = torch.tensor([[0], [1], [2]])
    x = torch.ones(3, 4)
    after = ask(env, state, {"likelihood": True}, x=x, document=document)
    assert bill(state, after) == [{"likelihood": 1, "tokens": n} for n in LENGTHS]
    assert after.observation["likelihood"].flatten().tolist() == [1.0, 2.0, 3.0]


def test_a_query_that_wants_nothing_costs_and_earns_nothing() -> None:
    env, state = begun()
    better = torch.tensor([[-0.5, -0.5, -0.2, -0.1]]).expand(3, -1)  # feasible
    after = ask(env, state, {}, x=better)
    assert bill(state, after) == [{}] * 3
    assert torch.equal(after.merit, state.merit)
    assert torch.equal(after.metrics["violation"], state.metrics["violation"])
    assert not after.reward.any()
    solved = ask(env, state, {"value": True}, x=better)
    assert (solved.merit < 3).all()
    assert (solved.reward > 0).all()


def test_only_what_a_row_wants_is_computed() -> None:
    computed: list[str] = []
    env, state = begun(computed=computed)
    assert computed == ["value", "gradient"]
    computed.clear()
    ask(env, state, {"value": torch.tensor([False, True, False])})
    assert computed == ["value"]
    computed.clear()
    ask(env, state, {})
    assert computed == []


def test_what_is_dear_is_computed_for_the_rows_that_pay() -> None:
    sizes: dict[str, int] = {}
    env, state = begun(5, sizes=sizes)
    some = torch.tensor([False, True, False, True, False])
    places = {name: normal(state.key, name, shape) for name, shape in (("x", 4), ("vector", 4))}
    places |= {
        "multipliers": normal(state.key, "multipliers", 2),
        "block": normal(state.key, "block", (3, 4)),
    }
    whole = ask(env, state, {"gradient": True, "product": True, "products": True}, **places).observation
    assert sizes == {"value": 5, "gradient": 5, "product": 5, "products": 5}
    shown = ask(env, state, {"gradient": some, "product": some, "products": ~some}, **places).observation
    assert sizes == {"value": 5, "gradient": 5, "product": 2, "products": 3}
    for kind, rows_ in (("product", some), ("products", ~some)):
        assert torch.equal(shown[kind][rows_], whole[kind][rows_])
        assert not shown[kind][~rows_].any()
    poor, state = begun(5, sizes=sizes, budget={"product": 1, "value": 9})
    state = ask(poor, state, {"product": some}, **places)
    ask(poor, state, {"product": True}, **places)  # two rows have spent theirs
    assert sizes["product"] == 3


def test_dear_kinds_of_the_same_rows_share_what_they_compute_once() -> None:
    made: list[tuple[int, tuple[str, ...]]] = []

    def doubled(state: State, query: Query) -> Tensor:
        def make() -> Tensor:
            made.append((len(query["x"]), tuple(sorted(query.kinds))))
            return 2 * query["x"] + state.hidden

        return query.once("doubled", make)

    class Twice(Program):
        def menu(self) -> dict[str, Kind]:
            dear = {name: Kind((4,), doubled, at=("x",), dear=True) for name in ("one", "two")}
            return super().menu() | dear

    env = Twice()
    state = env.reset(keys_from_seed(0, 4))
    some = torch.tensor([True, False, True, False])
    shown = ask(env, state, {"one": some, "two": some}).observation
    assert made == [(2, ("one", "two"))]
    assert torch.equal(shown["one"], shown["two"])
    assert torch.equal(shown["one"][0], 2 * shown["x"][0] + state.hidden[0])
    ask(env, state, {"one": some, "two": ~some, "value": True})
    assert made[1:] == [(2, ("one",)), (2, ("two",))]


def test_a_function_whose_rows_see_each_other_is_told_apart_by_the_checker() -> None:
    class Seeing(Program):
        def menu(self) -> dict[str, Kind]:
            mean = lambda state, query: query["x"] - query["x"].mean(0)  # noqa: E731
            return super().menu() | {"seeing": Kind((4,), mean, at=("x",), dear=True)}

    with pytest.raises(CheckFailed, match="menu: asked by one row, .*seeing"):
        optenvs.check(Seeing(), batch=3, steps=3)


def test_a_hessian_that_is_not_symmetric_is_told_by_the_checker() -> None:
    class Lopsided(Program):
        def menu(self) -> dict[str, Kind]:
            def bent(state: State, query: Query) -> Tensor:
                return torch.diag_embed(state.hidden[:, 1:], 1) + torch.diag_embed(query["x"])

            return super().menu() | {"hessian": Kind((4, 4), bent, at=("x",))}

    with pytest.raises(CheckFailed, match="menu: expected a symmetric matrix: transposed, .*hessian"):
        optenvs.check(Lopsided(), batch=2, steps=3)


def test_where_nobody_may_look_all_is_computed_and_masked() -> None:
    computed: list[str] = []
    env, state = begun(computed=computed)
    wanted = {"gradient": torch.tensor([False, True, True]), "likelihood": True}
    x, vector = normal(state.key, "asked", 4), normal(state.key, "vector", 4)
    action = state.problem.menu.query(wanted, x=x, vector=vector)
    expected = env.step(state, action)
    computed.clear()
    differentiated = env.step(state, {name: v.requires_grad_(name == "x") for name, v in action.items()})
    assert tuple(computed) == KINDS

    def row(x: Tensor, want: Tensor, vector: Tensor, i: int = 0) -> dict[str, Tensor]:
        one = rows(action, slice(i, i + 1)) | {"x": x[None], "want": want[None], "vector": vector[None]}
        return {
            name: value[0] for name, value in tensors(env.step(rows(state, slice(i, i + 1)), one)).items()
        }

    single = torch.func.vmap(row)(x[:1].detach(), action["want"][:1], vector[:1])
    for name, value in tensors(expected).items():
        assert torch.allclose(value, tensors(differentiated)[name]), name
        if name not in ("k", "key"):
            assert torch.allclose(value[:1], single[name]), name
    (back,) = torch.autograd.grad(differentiated.observation["gradient"].sum(), action["x"])
    assert torch.allclose(back, torch.where(wanted["gradient"][:, None], state.hidden + x**2, 0))


# budgets ------------------------------------------------------------------------------------------


def test_what_the_rest_does_not_pay_is_neither_answered_nor_billed() -> None:
    env, state = begun(budget={"hvp": 7, "value": 50})
    for _ in range(2):
        state = ask(env, state, {"products": True, "value": True})
    assert state.calls["hvp"].tolist() == [6, 6, 6]
    refused = ask(
        env, state, {"value": True, "products": torch.tensor([True, False, True]), "gradient": True}
    )
    assert bill(state, refused) == [{"value": 1, "gradient": 1}] * 3
    assert refused.observation["answered"][:, KINDS.index("products")].tolist() == [0, 0, 0]
    assert not refused.observation["products"].any()
    assert refused.observation["gradient"].all()


def test_the_menus_order_decides_what_is_paid() -> None:
    env, state = begun(budget={"tokens": 10}, batch=4)
    document = torch.tensor([[0], [1], [2], [1]])
    state = ask(env, state, {"likelihood": True}, x=torch.ones(4, 4), document=document)
    assert state.calls["tokens"].tolist() == [3, 8, 5, 8]
    # 7, 2, 5 and 2 are left: rows pay the shorter documents; where 2 are left no document could be paid
    after = ask(env, state, {"likelihood": True}, x=torch.ones(4, 4), document=document.flip(0))
    assert after.calls["tokens"].tolist() == [3, 8, 5, 8]
    assert after.observation["answered"][:, -1].tolist() == [0, 0, 0, 0]
    short = ask(env, state, {"likelihood": True, "value": True}, x=torch.ones(4, 4), document=0 * document)
    assert short.calls["tokens"].tolist() == [6, 8, 8, 8]
    assert short.observation["answered"][:, -1].tolist() == [1, 0, 1, 0]
    assert short.observation["answered"][:, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("budget", [{"value": 5}, {"value": 6, "hvp": 4}, {"tokens": 11, "gradient": 9}])
def test_no_budget_is_exceeded_whatever_is_asked(budget: dict[str, int]) -> None:
    env, state = begun(batch=64, budget=budget)
    for t in range(12):
        draws = normal(state.key, "wants", 8, t) > 0
        document = (normal(state.key, "document", 1, t) > 0).long()
        wanted = dict(zip(KINDS, draws.unbind(-1), strict=True))
        state = ask(env, state, wanted, x=normal(state.key, "x", 4, t), document=document)
        for unit, limit in budget.items():
            assert (state.calls[unit] <= limit).all()
    assert state.truncated.any()


def test_a_row_ends_when_its_limited_kinds_cannot_be_paid() -> None:
    env, state = begun(budget={"tokens": 10})
    document = torch.tensor([[0], [1], [2]])
    state = ask(env, state, {"likelihood": True}, x=torch.ones(3, 4), document=document)
    assert state.truncated.tolist() == [False, True, False], "2 tokens pay no document"
    state = ask(env, state, {"likelihood": True}, x=torch.ones(3, 4), document=document)
    assert state.calls["tokens"].tolist() == [6, 8, 10]
    assert state.truncated.tolist() == [False, True, True]


def test_a_budget_that_pays_the_first_query_is_enough() -> None:
    assert Program(budget={"value": 1, "gradient": 1, "hvp": 1}).reset(keys_from_seed(0, 2)).truncated.all()


# what is refused -----------------------------------------------------------------------------------

FN: Any = lambda state, query: query["x"]  # noqa: E731


@pytest.mark.parametrize(
    ("kinds", "keywords", "message"),
    [
        ({}, {}, "a menu needs places and kinds"),
        ({"x": Kind((2,), FN)}, {}, "'x' names another field"),
        ({"want": Kind((2,), FN)}, {}, "'want' names another field"),
        ({"value": Kind((), FN, at=("y",))}, {}, r"value: no place 'y' \(known: x\)"),
        ({"value": Kind((), FN, times="y")}, {}, "value: no place 'y'"),
        ({"gradient": Kind((2,), FN, slope_of="valu")}, {}, "gradient: slope_of: no kind 'valu'"),
        ({"value": Kind((), FN, bill={"value": 0})}, {}, "value: bill: expected whole numbers >= 1"),
        ({"value": Kind((), FN, least=0)}, {}, "value: bill: expected whole numbers >= 1 .* got 0"),
        ({"norm": Kind((), FN)}, {}, r"first: expected some of norm, for reset, got \(\)"),
        ({"value": Kind((), FN)}, {"first": ("norm",)}, r"first: expected some of value, .* got \('norm',\)"),
        ({"value": Kind((), FN)}, {"unit": "tokens"}, "unit: nothing bills 'tokens'"),
    ],
)
def test_menus_that_do_not_fit(kinds: dict[str, Kind], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Menu({"x": (2,)}, kinds, dtype="float32", device=torch.device("cpu"), **keywords)


def test_queries_that_do_not_fit() -> None:
    offer = Program().card.offer
    with pytest.raises(ValueError, match="wanted: no kind 'gradients'; did you mean 'gradient'"):
        offer.query({"gradients": True}, x=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="places: no place 'y'"):
        offer.query({"gradient": True}, y=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="places: expected one at least"):
        offer.query({"gradient": True})


def test_an_answer_of_another_shape_is_named() -> None:
    class Wrong(Program):
        def menu(self) -> dict[str, Kind]:
            return {"value": Kind((3,), lambda state, query: query["x"])}

    with pytest.raises(ValueError, match=r"value: expected an answer of shape \(2, 3\), got \(2, 4\)"):
        Wrong().reset(keys_from_seed(0, 2))


def test_an_answer_has_its_shape_and_not_only_as_many_numbers() -> None:
    kinds = {"matrix": Kind((2, 3), lambda s, q: q["x"].reshape(-1, 3, 2))}
    menu = Menu({"x": (6,)}, kinds, dtype="float32", device="cpu", first=("matrix",))
    state = Program().reset(keys_from_seed(0, 3))
    action = menu.offer.query({"matrix": True}, x=torch.zeros(3, 6))
    with pytest.raises(ValueError, match=r"matrix: expected an answer of shape \(3, 2, 3\), got \(3, 3, 2\)"):
        menu.answer({}, state, action, lambda s, q: (s.merit, {}))


def test_who_asks_wrongly_is_told_how_to_ask() -> None:
    env, state = begun()
    x = normal(state.key, "asked", env.dim)
    with pytest.raises(TypeError, match=r"action: Program is asked by a dict with the fields .*got Tensor"):
        env.step(state, x)
    with pytest.raises(ValueError, match=r"x: expected a tensor \(B, 4\), got \(3, 3\)"):
        ask(env, state, {"value": True}, x=x[:, :3])
    with pytest.raises(ValueError, match="x: expected a tensor .*, got ndarray"):
        ask(env, state, {"value": True}, x=x.numpy())  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="query: no place 'y'"):
        Query({"x": x})["y"]
    with pytest.raises(ValueError, match="value: shape: expected a tuple of whole numbers or a Box, got 1"):
        Menu({"x": (4,)}, {"value": Kind(1, slope)}, dtype="float32", device="cpu")  # type: ignore[arg-type]


def test_notes_name_what_they_do_not_hold() -> None:
    agent = agents.from_function(lambda observation: observation, needs=("value", "gradient"))
    _, state = begun()
    notes = Notes.begin(agent, state.problem, state.observation)
    x = state.observation["x"]
    assert notes.holds("gradient", x=x).all() and not notes.holds("gradient", x=x + 1).any()
    for look in (lambda: notes["jacobian"], lambda: notes.holds("jacobian", x=x)):
        with pytest.raises(KeyError, match="no kind 'jacobian'; the agent's needs are value, gradient"):
            look()
    with pytest.raises(ValueError, match="places: no place 'y'"):  # or it would never be held
        notes.holds("gradient", y=x)
