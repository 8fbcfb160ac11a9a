"""Snapshots: bit for bit, atomic, and never a way to run a file's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.core.struct import static, struct, tensors


@struct
class Mine:
    a: Tensor
    name: str = static(default="x")


def state(**keywords: Any) -> Any:
    env = optenvs.make("LeastSquares", dim=3, rotate=True, **keywords)
    first = env.reset(keys_from_seed(0, 2))
    return env.step(first, first.observation["point"] + 0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    before = state(dtype=dtype)
    after = load(save(tmp_path / "s.safetensors", before))
    assert type(after) is type(before)
    left, right = tensors(before), tensors(after)
    assert list(left) == list(right)
    for path, value in left.items():
        assert value.dtype == right[path].dtype, path
        assert torch.equal(value, right[path]), path
    assert after.calls.kinds == before.calls.kinds


def test_plain_data_and_special_numbers(tmp_path: Path) -> None:
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 5e-324], dtype=torch.float64)
    tree = {"x": (odd, [1, 2.5, None, True, "text"]), "empty": torch.zeros(0, 3), "shared": odd}
    back = load(save(tmp_path / "s", tree))
    assert back["x"][1] == [1, 2.5, None, True, "text"]
    assert isinstance(back["x"], tuple)
    assert torch.equal(back["x"][0].view(torch.int64), odd.view(torch.int64))
    assert back["empty"].shape == (0, 3)


def test_views_and_expanded_tensors_are_stored_whole(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    tree = {"view": base[::2], "expanded": torch.ones(1).expand(4), "transposed": base.view(2, 3).T}
    back = load(save(tmp_path / "s", tree))
    for name, value in tree.items():
        assert torch.equal(back[name], value)


def test_a_graph_is_not_stored(tmp_path: Path) -> None:
    grown = torch.ones(2, requires_grad=True) * 2
    assert not load(save(tmp_path / "s", {"x": grown}))["x"].requires_grad


def test_a_foreign_class_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    path = save(tmp_path / "s", Mine(a=torch.ones(2), name="mine"))
    with pytest.raises(ValueError, match=r"names the class .*Mine; allow it with classes="):
        load(path)
    assert load(path, classes=(Mine,)).name == "mine"


def forged(path: Path, tree: dict[str, Any], form: str = "optenvs-1") -> Path:
    save_file({"x": torch.ones(1)}, path, metadata={"format": form, "tree": json.dumps(tree)})
    return path


@pytest.mark.parametrize(
    "name",
    ["os:system", "subprocess:Popen", "builtins:eval", "pathlib:Path", "optenvs_evil:Class", "torch:Tensor"],
)
def test_a_forged_file_cannot_name_a_class_of_other_packages(tmp_path: Path, name: str) -> None:
    path = forged(tmp_path / "s", {"class": name, "fields": {}})
    with pytest.raises(ValueError, match="it names the class"):
        load(path)


@pytest.mark.parametrize(
    "name", ["optenvs.core.snapshot:os", "optenvs.core.snapshot:load", "optenvs.making:make"]
)
def test_a_forged_file_cannot_call_what_is_no_struct(tmp_path: Path, name: str) -> None:
    path = forged(tmp_path / "s", {"class": name, "fields": {}})
    with pytest.raises(ValueError, match="is no struct"):
        load(path)


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = save(tmp_path / "s", state())
    whole = path.read_bytes()
    for name, content in {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "noise": b"\x93" * 400,
        "header": b"\xff" * 8 + whole[8:],
    }.items():
        damaged = tmp_path / name
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: not a readable snapshot"):
            load(damaged)
    with pytest.raises(ValueError, match="format 'other', expected 'optenvs-1'"):
        load(forged(tmp_path / "other", {"json": 1}, form="other"))
    with pytest.raises(ValueError, match="unknown node 'lambda'"):
        load(forged(tmp_path / "node", {"lambda": 1}))


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")


def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"a\.b: cannot be saved: function is no tensor or struct"):
        save(tmp_path / "s", {"a": {"b": lambda: 0}})
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "s", {"x": torch.ones(2)})

    def full(*args: Any, **kwargs: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("optenvs.core.snapshot.save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save(path, {"x": torch.zeros(2)})
    assert load(path)["x"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_run_can_be_saved_and_resumed(tmp_path: Path) -> None:
    import agents

    env, agent = optenvs.make("Quadratic"), agents.SGD(lr=0.1, momentum=0.9)
    whole = optenvs.rollout(env, agent, batch=3, steps=20)
    half = optenvs.rollout(env, agent, batch=3, steps=10)
    resumed = optenvs.rollout(env, agent, steps=10, resume=load(save(tmp_path / "run", half)))
    assert torch.equal(resumed.merit[-1], whole.merit[-1])
