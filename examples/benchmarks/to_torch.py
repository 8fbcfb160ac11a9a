"""How long does a learned optimizer's step take on a large module, beside the matrix products of its network?

LOLv2 asks a network of 19-32-32-2 units for every parameter. The bare products are those of its three weights
with inputs of that size, once each; the step also updates six momenta, normalises tensor by tensor and writes
the module.

    python examples/benchmarks/to_torch.py --size 1000000

Measured on two cores, torch 2.13 CPU, one thread, while other work kept the machine busy (load 9): the step
through ``agents.to_torch`` took 0.54 and 0.61 of the products' time, which go through arrays of 128 MB, and
without pieces (each of its own arrays as a whole) 2.1 and 2.7 times as long.

With ``--agent adafac_mlp`` or ``velo`` the same products are beside a step of that rule, which sees more of
an entry and has a smaller network. On the same machine, busier (load 38): 0.90 of the products' time, and 2.8
as a whole; of VeLO 2.0 and 3.9.
"""

from __future__ import annotations

import argparse

import torch
from timing import interleave, machine, ratio
from torch import nn

import agents
from agents.learned import lolv2

SMALL = {"velo": {"lstm_hidden": 64, "bank": 64}}
"""So that the time is that of entries, and not of the LSTM of two tensors."""


def measure(size: int, repeats: int = 5, name: str = "lolv2") -> dict[str, float]:
    """Seconds of the step, and how many times the bare products that is, in pieces and as a whole."""
    width = round(size**0.5)
    module = nn.Linear(width, width)
    agent = agents.make(name, **SMALL.get(name, {}))
    optimizer = agents.to_torch(agent, module.parameters(), steps=1000)
    loss = torch.tensor(1.0) if "value" in agent.needs else None
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    count = sum(parameter.numel() for parameter in module.parameters())
    inputs = torch.randn(count, 19, generator=generator)
    weights = [torch.randn(shape, generator=generator) for shape in ((19, 32), (32, 32), (32, 2))]

    def products() -> None:
        values = inputs
        for weight in weights:
            values = values @ weight

    def step() -> None:
        optimizer.step(loss=loss)

    def whole() -> None:
        piece, lolv2.PIECE = lolv2.PIECE, count
        try:
            step()
        finally:
            lolv2.PIECE = piece

    found = interleave({"products": products, "step": step, "whole": whole}, repeats)
    ratios = {name: ratio(found[name], found["products"]) for name in ("step", "whole")}
    return ratios | {"seconds": min(found["step"])}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="A learned step beside its bare products.")
    parser.add_argument("--size", type=int, default=1_000_000, help="parameters of the module")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--agent", choices=("lolv2", "adafac_mlp", "velo"), default="lolv2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.size, options.repeats, options.agent)
    print(machine())
    print(f"the step        {found['seconds']:8.3f} s   {found['step']:6.2f} x the products")
    print(f"without pieces             {found['whole']:6.2f} x the products")


if __name__ == "__main__":
    main()
