"""On a GPU: networks trained at once, and the share of the copy bandwidth that batched landscapes reach.

    python examples/benchmarks/gpu.py            (or, to try the script without a GPU: --device cpu)

The share is of the bytes that a step cannot avoid (read point, spectrum and optimum, write the gradient) over
its time, relative to ``Tensor.copy_`` of a tensor that is as large.

No GPU was at hand when this was written: there are no figures yet.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from batched_training import CASES, at_once, one_by_one

import optenvs
from optenvs.core import keys_from_seed


def seconds_of(call: Callable[[], object], device: str, repeats: int = 20) -> float:
    """Median seconds of a call, with the device waited for."""
    taken = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[3:])


def bandwidth(env_id: str, arrays: int, batch: int, dim: int, device: str) -> tuple[float, float]:
    """Bytes a second of a step, which moves at least ``arrays`` arrays ``(batch, dim)``, and of a copy."""
    core = optenvs.make(env_id, dim=dim, device=device, budget=None)
    state = core.reset(keys_from_seed(0, batch, device))
    query = state.observation["point"] * 0.9
    target, size = torch.empty_like(query), query.numel() * query.element_size()

    def step() -> None:
        with torch.no_grad():
            core.step(state, query)

    copying = seconds_of(lambda: target.copy_(query), device)
    return arrays * size / seconds_of(step, device), 2 * size / copying


def main() -> None:
    """Print the tables, or that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    if device != "cpu" and not torch.cuda.is_available():
        print("no GPU: torch finds none here, so nothing was measured (--device cpu tries the script)")
        return
    print(f"torch {torch.__version__}, {'CPU' if device == 'cpu' else torch.cuda.get_device_name()}")
    for name, width, minibatch, _ in CASES:
        plain, _ = one_by_one(width, minibatch, 2, 88, device)
        for batch in (256,) if device == "cpu" else (256, 4096):
            at_once(width, minibatch, batch, 20, device)
            start = time.perf_counter()
            together, _ = at_once(width, minibatch, batch, 88, device)
            if device != "cpu":  # the host's clock runs ahead: take the whole run, evaluation too
                torch.cuda.synchronize()
                together = (time.perf_counter() - start) / (batch * 88)
            rate, gain = 1 / together, plain / together
            print(f"{name}, {batch} at once: {rate:12,.0f} network-steps/s, {gain:.0f}x one by one")
    for env_id, arrays in (("optenvs/Quadratic-v0", 4), ("optenvs/Rosenbrock-v0", 3)):
        for batch in (1024, 4096 if device == "cpu" else 65536):
            rate, copy = (number / 1e9 for number in bandwidth(env_id, arrays, batch, 1000, device))
            print(f"{env_id} {batch}x1000: {rate:.1f} GB/s, {rate / copy:.0%} of a copy ({copy:.1f} GB/s)")


if __name__ == "__main__":
    main()
