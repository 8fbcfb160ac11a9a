"""On a GPU: networks trained at once, and the share of the copy bandwidth that batched landscapes reach.

    python examples/benchmarks/gpu.py            (or, to try the script without a GPU: --device cpu)

1. Small MLPs on digits, as in ``batched_training.py``: 256 and 4096 at once against one after the other in
   plain torch, both on the device. "At once" is the whole run with its start and its evaluations, because the
   host's clock runs ahead of a GPU; "one by one" is its training loop alone. So the ratio errs downwards.
2. A step of a landscape with 1000 dimensions. The share is of the bytes that the step cannot avoid (read the
   point and the instance's tensors, write the gradient) over its time, relative to ``Tensor.copy_`` of a
   tensor of the point's size, which reads and writes it. 1024 points are 4 MB: they fit a GPU's cache, and
   the time is that of starting kernels; 65536 are 262 MB and meet the memory.

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
from optenvs.core.struct import tensors

STEPS, DIM = 88, 1000
LANDSCAPES = ("optenvs/Quadratic-v0", "optenvs/Rosenbrock-v0")


def wait(device: str) -> None:
    """Until the device has done what it was asked for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: str, repeats: int = 20) -> float:
    """Median seconds of a call, with the device waited for."""
    taken = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        call()
        wait(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[3:])


def gain(width: int, minibatch: int, batch: int, device: str, steps: int = STEPS) -> tuple[float, float]:
    """Network-steps a second of ``batch`` networks at once, and how many times those of one by one."""
    for taken in (3, steps):  # a device loads its kernels at the first steps
        plain, _ = one_by_one(width, minibatch, 2, taken, device)
        wait(device)
        start = time.perf_counter()
        at_once(width, minibatch, batch, taken, device)
        wait(device)
        together = (time.perf_counter() - start) / (batch * taken)
    return 1 / together, plain / together


def bandwidth(env_id: str, batch: int, dim: int, device: str) -> tuple[float, float]:
    """Bytes a second that a step cannot avoid to move, and those of a copy."""
    core = optenvs.make(env_id, dim=dim, device=device, budget=None)
    state = core.reset(keys_from_seed(0, batch, device))
    query = state.observation["point"] * 0.9
    target, size = torch.empty_like(query), query.numel() * query.element_size()
    # an expanded tensor has one row in memory
    instance = sum(part.untyped_storage().nbytes() for part in tensors(state.hidden).values())

    def step() -> None:
        with torch.no_grad():
            core.step(state, query)

    copying = seconds_of(lambda: target.copy_(query), device)
    return (2 * size + instance) / seconds_of(step, device), 2 * size / copying


def main() -> None:
    """Print the tables, or that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the script")
    device = parser.parse_args().device
    cpu = device == "cpu"
    if not cpu and torch.device(device).type != "cuda":
        parser.error(f"--device: expected cuda, cuda:N or cpu, got {device!r}")
    if not cpu and not torch.cuda.is_available():
        print("no GPU: torch finds none here, so nothing was measured (--device cpu tries the script)")
        return
    print(f"torch {torch.__version__}, {'CPU' if cpu else torch.cuda.get_device_name(device)}")
    print(f"networks on digits, {STEPS} steps: at once against one by one in plain torch")
    for name, width, minibatch, _ in CASES:
        for batch in (256,) if cpu else (256, 4096):
            rate, ratio = gain(width, minibatch, batch, device)
            print(f"  {name}, {batch} at once: {rate:12,.0f} network-steps/s, {ratio:.0f}x one by one")
    print(f"a landscape's step in {DIM} dimensions: bytes that it cannot avoid to move, against a copy")
    for env_id in LANDSCAPES:
        for batch in (1024, 4096 if cpu else 65536):
            rate, copy = (number / 1e9 for number in bandwidth(env_id, batch, DIM, device))
            print(f"  {env_id} {batch}x{DIM}: {rate:.1f} GB/s, {rate / copy:.0%} of a copy ({copy:.1f} GB/s)")


if __name__ == "__main__":
    main()
