"""Result files: stable names, exact round trip, atomic writes, damage found."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile

import numpy as np
import pytest

from optenvs.bench.hashing import canonical_json, digest
from optenvs.bench.results import (
    ResultError,
    RunSpec,
    current_versions,
    read,
    scan,
    write,
)
from optenvs.bench.seeds import derive_seed


def test_round_trip_is_exact(make_record, tmp_path):
    record = make_record(lr=0.1)
    record = dataclasses.replace(record, curves={**record.curves, "metrics/x": [np.inf] * 101})
    back = read(write(record, tmp_path))
    assert back.spec == record.spec
    assert back.measure == record.measure
    for name in ("status", "environment_label", "agent_label", "config", "versions"):
        assert getattr(back, name) == getattr(record, name)
    assert list(back.curves) == list(record.curves)
    for name, values in record.curves.items():
        assert back.curves[name].dtype == values.dtype
        np.testing.assert_array_equal(back.curves[name], values)
    assert not back.curves["metrics/gap"].flags.writeable


def test_the_same_record_is_the_same_file(make_record, tmp_path):
    first = write(make_record(), tmp_path / "a").read_bytes()
    assert first == write(make_record(), tmp_path / "b").read_bytes()


def test_run_id_is_stable_and_depends_on_every_field(make_record):
    spec = make_record(lr=0.1).spec
    assert spec.run_id == "05316f55d652add1"  # a change here loses everybody's results
    changed = {
        "suite": "x",
        "environment": "x",
        "agent": "x",
        "phase": "tune",
        "instance": 5,
        "repetition": 5,
        "seed": 5,
        "budget": 5,
        "cost": "x",
        "environment_kwargs": {"dim": 11},
        "hyperparameters": {"lr": 0.2},
    }
    assert set(changed) == {field.name for field in dataclasses.fields(RunSpec)}
    ids = {dataclasses.replace(spec, **{k: v}).run_id for k, v in changed.items()}
    assert len(ids | {spec.run_id}) == len(changed) + 1


def test_run_id_ignores_key_order_and_container_type(make_record):
    spec = make_record().spec
    one = dataclasses.replace(spec, hyperparameters={"a": (1, 2), "b": np.float64(0.5)})
    two = dataclasses.replace(spec, hyperparameters={"b": 0.5, "a": [1, 2]})
    assert one == two
    assert one.run_id == two.run_id


def test_labels_and_measure_do_not_rename_a_run(make_record):
    record = make_record()
    other = dataclasses.replace(record, agent_label="Adam, renamed")
    assert other.spec.filename == record.spec.filename


@pytest.mark.parametrize("keep", [0, 10, 200, -40, -1])
def test_truncated_file_is_refused_and_scanned_as_missing(make_record, tmp_path, keep):
    path = write(make_record(repetition=1), tmp_path)
    good = write(make_record(repetition=2), tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ResultError, match=f"{path.name}.*truncated or damaged"):
        read(path)
    found = scan(tmp_path)
    assert [r.spec.filename for r in found.records.values()] == [good.name]
    assert len(found.warnings) == 1
    assert path.name in found.warnings[0]
    assert "treated as missing" in found.warnings[0]


def test_a_flipped_bit_in_a_curve_is_refused(make_record, tmp_path):
    path = write(make_record(), tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"curve:metrics/gap") + 300] ^= 1
    path.write_bytes(data)
    with pytest.raises(ResultError, match="CRC"):
        read(path)


def test_any_flipped_byte_is_refused_or_harmless(make_record, tmp_path):
    record = make_record(budget=3)
    path = write(record, tmp_path)
    good = path.read_bytes()
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 0xFF
        path.write_bytes(data)
        try:
            back = read(path)
        except ResultError:
            continue
        assert back.spec == record.spec  # the byte was one that no reader looks at, as a date
        for name, values in record.curves.items():
            np.testing.assert_array_equal(back.curves[name], values)


def test_an_edited_header_is_refused(make_record, tmp_path):
    path = write(make_record(), tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    header["spec"]["budget"] = 10**6
    arrays["header"] = np.frombuffer(canonical_json(header).encode(), dtype=np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(ResultError, match="does not belong to its content"):
        read(path)


def test_pickles_and_foreign_archives_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", header=np.array([{"code": 1}], dtype=object))
    np.savez(tmp_path / "b.npz", something=np.ones(3))
    np.save(tmp_path / "c", np.ones(3))
    (tmp_path / "c.npy").rename(tmp_path / "c.npz")
    for name in "abc":
        with pytest.raises(ResultError, match=f"{name}.npz"):
            read(tmp_path / f"{name}.npz")


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.npz")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(make_record, tmp_path, monkeypatch):
    path = write(make_record(), tmp_path)
    before = path.read_bytes()

    def broken(stream, **arrays):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        write(make_record(), tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_second_copy_of_a_run_is_noted(make_record, tmp_path):
    path = write(make_record(), tmp_path)
    (tmp_path / "copy.npz").write_bytes(path.read_bytes())
    found = scan(tmp_path)
    assert len(found.records) == 1
    assert "second copy" in found.warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "fine"}, "status"),
        (
            {"curves": {"metrics/gap": np.ones(3), "calls/gradient": np.ones(2)}},
            "one length",
        ),
        ({"curves": {"metrics/gap": np.ones((3, 1))}}, "1-D"),
        ({"curves": {"metrics/gap": np.array(["a"])}}, "1-D numbers"),
        ({"curves": {"metrics/gap": [1.0]}}, "no column 'calls/gradient'"),
        (
            {"curves": {"calls/gradient": [2, 1], "metrics/gap": [1.0, 1.0]}},
            "never decreases",
        ),
        ({"curves": {}}, "at least one row"),
    ],
)
def test_malformed_records_are_refused(make_record, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_record(), **change)


def test_a_run_that_raised_needs_no_curves(make_record, tmp_path):
    record = dataclasses.replace(make_record(), status="error: no such column", curves={})
    assert read(write(record, tmp_path)).status == "error: no such column"


def test_specs_are_checked(make_record):
    spec = make_record().spec
    for change in ({"phase": "test"}, {"seed": -1}, {"seed": 2**63}):
        with pytest.raises(ValueError, match=next(iter(change))):
            dataclasses.replace(spec, **change)
    with pytest.raises(ValueError, match="JSON"):
        dataclasses.replace(spec, hyperparameters={"lr": float("nan")})


def test_versions_name_what_a_result_depends_on():
    assert {"python", "torch", "numpy", "optenvs", "platform"} <= set(current_versions())


COORDINATES = {
    "suite": "s",
    "environment": "e",
    "instance": 1,
    "agent": "a",
    "repetition": 2,
    "phase": "judge",
    "seed": 0,
}


def test_seed_is_pinned_and_in_range():
    assert derive_seed(**COORDINATES) == 4781579138698441969
    seeds = {derive_seed(**{**COORDINATES, "repetition": i}) for i in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("axis", "other"),
    [
        ("suite", "x"),
        ("environment", {"id": "e", "kwargs": {"dim": 2}}),
        ("instance", 7),
        ("agent", "x"),
        ("repetition", 7),
        ("phase", "tune"),
    ],
)
def test_flags_choose_what_shares_a_seed(axis, other):
    def pair(used):
        flag = {f"use_{axis}": used}
        return derive_seed(**COORDINATES, **flag), derive_seed(**{**COORDINATES, axis: other}, **flag)

    first, second = pair(True)
    assert first != second
    first, second = pair(False)
    assert first == second


def test_by_default_only_agents_share_a_seed():
    base = derive_seed(**COORDINATES)
    assert derive_seed(**{**COORDINATES, "agent": "other"}) == base
    assert derive_seed(**{**COORDINATES, "seed": 1}) != base
    assert derive_seed(**{**COORDINATES, "phase": "tune"}) != base


def with_header(path, change):
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    change(header)
    header["run_id"] = digest(header["spec"]).hex()[:16]
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(agent_label=5),
        lambda header: header.update(config=[]),
        lambda header: header.update(config={"agents": [{"label": 3}]}),
        lambda header: header.update(config={"environments": 7}),
        lambda header: header.update(versions={"torch": None}),
        lambda header: header.update(measure={"metric": "gap", "best_so_far": 1, "tolerances": [0.1]}),
        lambda header: header["spec"].update(budget="many"),
        lambda header: header["spec"].update(budget=10**400),
        lambda header: header["spec"].update(hyperparameters=[1]),
    ],
)
def test_crafted_headers_are_refused(make_record, tmp_path, change):
    path = write(make_record(), tmp_path)
    with_header(path, lambda header: header.update(status="diverged"))
    assert [record.status for record in scan(tmp_path).records.values()] == ["diverged"]
    with_header(path, change)
    assert len(scan(tmp_path).warnings) == 1


def test_whatever_lies_in_a_folder_of_results_is_a_warning(make_record, tmp_path):
    good = write(make_record(), tmp_path)
    for name, member, content in (("za", "header", b"no array"), ("zb", "header.npy", b"\x93NUMPY")):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as archive:
            archive.writestr(member, content)
    np.savez(tmp_path / "zc.npz", header=np.frombuffer(b"[" * 100_000, dtype=np.uint8))
    np.savez_compressed(tmp_path / "zd.npz", header=np.zeros(2**27, np.uint8))  # 128 MiB in 128 kB
    (tmp_path / "ze.npz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zf.npz").mkdir()
    os.mkfifo(tmp_path / "zg.npz")
    found = scan(tmp_path)
    assert [record.spec.filename for record in found.records.values()] == [good.name]
    assert [warning.partition(":")[0].rpartition("/")[2] for warning in found.warnings] == [
        f"z{letter}.npz" for letter in "abcdefg"
    ]
    assert all(warning.endswith("; treated as missing") for warning in found.warnings)
    assert "a link to nowhere" in found.warnings[4]
