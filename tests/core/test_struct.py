"""Structs as pytrees, and the tools that walk them."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import Part, detach, filled, rows, select, stack, static, struct, tensors, tree_map


@struct
class Inner:
    a: Tensor
    names: tuple[str, ...] = static(default=("x",))


@struct
class Outer:
    inner: Inner
    table: dict[str, Tensor]
    pair: tuple[Tensor, Tensor]
    nothing: Any = None


class Named(NamedTuple):
    left: Tensor
    right: Tensor


def tree(batch: int = 3) -> Outer:
    base = torch.arange(float(batch))
    return Outer(inner=Inner(a=base), table={"b": base + 10}, pair=(base + 20, base.unsqueeze(1)))


def test_a_struct_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tree().inner = Inner(a=torch.zeros(1))  # type: ignore[misc]


def test_a_struct_is_filled_without_its_constructor() -> None:
    made = filled(Inner, {"a": torch.ones(2)})
    assert made.names == ("x",)
    with pytest.raises(TypeError, match="Inner: unknown or missing fields: a, b"):
        filled(Inner, {"b": 1})


def test_a_struct_is_a_pytree_of_its_non_static_fields() -> None:
    leaves, spec = _pytree.tree_flatten(tree())
    assert sum(isinstance(leaf, Tensor) for leaf in leaves) == 4
    again = _pytree.tree_unflatten(leaves, spec)
    assert again.inner.names == ("x",)
    other = dataclasses.replace(tree(), inner=Inner(a=torch.zeros(3), names=("y",)))
    assert _pytree.tree_structure(other) != spec


def test_paths_name_fields() -> None:
    paths = [_pytree.keystr(path) for path, _ in _pytree.tree_flatten_with_path(tree())[0]]
    assert paths[0] == ".inner.a"
    assert list(tensors(tree())) == ["inner.a", "table.b", "pair.0", "pair.1"]


def test_vmap_walks_structs() -> None:
    doubled = torch.func.vmap(lambda t: Inner(a=2 * t.a))(Inner(a=torch.arange(4.0)))
    assert torch.equal(doubled.a, 2 * torch.arange(4.0))


def test_vmap_walks_structs_that_hold_none() -> None:
    holds = tree()
    assert holds.nothing is None
    found = torch.func.vmap(lambda t: dataclasses.replace(t, inner=Inner(a=t.table["b"] + t.pair[0])))(holds)
    assert found.nothing is None
    assert torch.equal(found.inner.a, holds.table["b"] + holds.pair[0])
    filled = dataclasses.replace(holds, nothing=torch.ones(3))
    assert torch.equal(torch.func.vmap(lambda t: t.nothing + 1)(filled), torch.full((3,), 2.0))
    assert _pytree.tree_structure(filled) != _pytree.tree_structure(holds)


@pytest.mark.parametrize("dim", [2, 5])
def test_vmap_over_the_states_of_an_environment(dim: int) -> None:
    env = optenvs.make("Rosenbrock", dim=dim, budget=None)
    singles = [env.reset(keys_from_seed(seed, 1)) for seed in range(4)]
    parts = (singles[0], singles[0].problem, singles[0].hidden)
    assert any(value is None for part in parts for value in vars(part).values())
    many = stack(singles)
    queries = many.observation["point"] + 0.1
    found = torch.func.vmap(env.step)(many, queries)
    expected = stack([env.step(single, query) for single, query in zip(singles, queries, strict=True)])
    left, right = tensors(found), tensors(expected)
    assert left.keys() == right.keys()
    for path, value in left.items():
        torch.testing.assert_close(value, right[path], msg=path)


def test_paths_tell_all_keys_apart() -> None:
    leaf = torch.ones(1)
    odd = {"a.b": leaf, "a": {"b": leaf}, "": {"b": leaf, "": leaf}, "\\": leaf}
    odd |= {1: {"5": leaf}, 1.5: leaf, "1": leaf}
    assert len(tensors(odd)) == 8
    assert list(tensors({"x": {"a.b": leaf}})) == ["x.a\\.b"]


def test_tree_map_keeps_what_is_no_tensor() -> None:
    mapped = tree_map(lambda leaf: leaf + 1, tree())
    assert mapped.nothing is None
    assert mapped.inner.names == ("x",)
    assert torch.equal(mapped.pair[0], tree().pair[0] + 1)
    named = tree_map(lambda leaf: leaf * 2, Named(torch.ones(2), torch.ones(3)))
    assert isinstance(named, Named)
    assert named.right.sum() == 6
    assert tree_map(lambda leaf: leaf, [1, "a", None]) == [1, "a", None]


def test_tree_map_over_two_trees() -> None:
    total = tree_map(torch.add, tree(), tree())
    assert torch.equal(total.table["b"], 2 * tree().table["b"])


def test_tree_map_refuses_trees_of_unequal_length() -> None:
    with pytest.raises(ValueError, match="shorter"):
        tree_map(torch.add, (torch.ones(1), torch.ones(1)), (torch.ones(1),))


def test_select_is_row_by_row() -> None:
    mask = torch.tensor([True, False, True])
    changed = tree_map(lambda leaf: leaf + 100, tree())
    chosen = select(mask, changed, tree())
    assert chosen.inner.a.tolist() == [100, 1, 102]
    assert chosen.pair[1].flatten().tolist() == [100, 1, 102]


def test_select_does_not_copy_what_is_the_same() -> None:
    one = tree()
    assert select(torch.tensor([True, False, True]), one, one).inner.a is one.inner.a


@pytest.mark.parametrize("index", [slice(1, 2), [1], torch.tensor([1]), torch.tensor([False, True, False])])
def test_rows(index: Any) -> None:
    chosen = rows(tree(), index)
    assert chosen.inner.a.tolist() == [1]
    assert chosen.pair[1].shape == (1, 1)


def test_a_part_copies_what_is_read_and_shares_what_all_rows_share() -> None:
    table = torch.arange(6.0).reshape(2, 3)
    whole = dataclasses.replace(tree(4), pair=(table.expand(4, 2, 3), torch.ones(4, 1)))
    part = Part(whole, torch.tensor([3, 1]))
    assert part.inner.a.tolist() == [3, 1]
    assert part.inner.names == ("x",)
    assert part.inner is part.inner
    assert set(part.__dict__) == {"_whole", "_index", "inner"}
    shared, own = part.pair
    assert shared.shape == (2, 2, 3)
    assert shared.data_ptr() == table.data_ptr()
    assert own.shape == (2, 1)
    with pytest.raises(AttributeError, match="other"):
        _ = part.other


def test_stack_and_detach() -> None:
    stacked = stack([tree(), tree()], 0)
    assert stacked.inner.a.shape == (2, 3)
    grown = Inner(a=torch.ones(2, requires_grad=True) * 2)
    assert not detach(grown).a.requires_grad
    assert grown.a.requires_grad
