"""Can an optimizer that was learned in minutes beat tuned ones on small networks, and where does it lose?

Meta-trains LOLv2 (Metz et al. 2020) or the MLP over Adafactor's features (Metz et al. 2022, with 32 units) on
small networks for handwritten digits (``optenvs/TrainDigits-v0``: 64-8-10 and 64-16-10 with rectified units
and minibatches of 32, 64-8-8-10 with tanh and 16), varied by seed: other initial weights and data orders in
every epoch, 8 networks at a time for 40, 60, 100 or 200 steps. Truncated backpropagation through windows of
20 steps; the loss of a window is the mean minibatch loss after its steps, gradients of tasks are constants;
Adam on a cosine, the norm of the gradient clipped at 1. The best checkpoint is chosen on other seeds.

    python examples/meta_train_small_networks.py --rule lolv2 --epochs 12
    python examples/meta_train_small_networks.py --rule adafac_mlp --epochs 20 --stop 15

made the weights that ship (``agents.make("lolv2", pretrained="small-networks")``), in a minute of a core.
What they reach beside what is tuned by hand, at the same number of gradients: the mean loss over the
steps, and that of the last tenth of them. Held out: 64-16-10 on digits, 200 steps, 16 seeds. Twice as long as
any training: 400 steps, 8 seeds. Families that training never saw: MNIST with 784-32-10, 150 steps, 4 seeds;
logistic regression in ten dimensions, 200 steps; ``|W x - y|^2`` in ten dimensions, 100 steps. What is tuned
has the best rate of a grid on seeds of its own, for each number and problem anew; the learned ones are as
they are. See ``examples/against_tuned.py``.

    optimizer                     held out       400 steps           MNIST        logistic         squares
    lolv2                    0.293  0.1422   0.229  0.1784   1.800  2.6656   0.537  0.5285   1.898  0.6739
    adafac_mlp               0.275  0.0956   0.167  0.0675   1.124  0.9565   0.542  0.5351   4.013  3.9269
    Adam, 0.001              1.446  0.7244   0.951  0.3195   0.778  0.3895   0.642  0.6085   8.041  6.6315
    SGD                      0.363  0.1130   0.221  0.0567   0.578  0.3041   0.529  0.5281   1.500  0.9104
    SGD, cosine              0.359  0.1298   0.219  0.0697   0.569  0.2474   0.529  0.5281   1.621  1.0205
    momentum 0.9             0.351  0.1111   0.224  0.0621   0.616  0.2882   0.532  0.5281   0.962  0.2690
    momentum 0.9, cosine     0.302  0.0528   0.181  0.0190   0.558  0.2415   0.532  0.5281   0.987  0.3598
    Adam                     0.276  0.0879   0.185  0.0576   0.564  0.3120   0.530  0.5281   0.982  0.3625
    Adam, cosine             0.256  0.0698   0.155  0.0274   0.529  0.2639   0.530  0.5281   1.041  0.5076
    AdamW                    0.276  0.0951   0.182  0.0597   0.564  0.2936   0.530  0.5281   0.984  0.3868
    AdamW, cosine            0.257  0.0712   0.156  0.0295   0.529  0.2618   0.530  0.5281   1.042  0.5249
    NAdamW                   0.263  0.0869   0.164  0.0507   0.538  0.2902   0.531  0.5281   1.212  0.6440
    NAdamW, cosine           0.241  0.0643   0.141  0.0226   0.495  0.2299   0.530  0.5281   1.045  0.5898

So a minute of meta-training does not beat what is tuned by hand. In the mean loss on held-out seeds both beat
SGD and momentum, whatever the schedule; the Adafactor rule is where Adam with a tuned constant rate is, and
all of Adam's kin on a cosine are better. LOLv2 ends behind all, and twice as long it is behind all in the
mean, too: it has only seen what the next 20 steps gain. The Adafactor rule keeps its place there. On families
that they have not seen both lose to all that is tuned in the mean, by far on least squares and on MNIST,
where LOLv2 makes the network worse and Adam as it comes (0.001) beats both. Elsewhere they beat that one, but
not to the end of longer runs: over 1000 steps of 64-16-10 (8 seeds) the mean loss of LOLv2 is 0.247, of the
Adafactor rule 0.169, of Adam at 0.001 0.491, and the last one 0.306, 0.372 and 0.129. They are a start for
longer meta-training, and no replacement for a tuned method.

Needs the extras ``data`` and ``bench`` (for digits, MNIST and tqdm).
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import time
from pathlib import Path
from typing import Any

import against_tuned
import torch
from tqdm import tqdm

import agents
import optenvs
from optenvs.core import keys_from_seed

NAME = "small-networks"
TASKS = against_tuned.SMALL_NETWORKS
RULES: dict[str, dict[str, Any]] = {
    "lolv2": {"step_multiplier": 0.01},
    "adafac_mlp": {"hidden": 32, "step_multiplier": 0.01},
}
LENGTHS, TRUNCATION, BATCH = (40, 60, 100, 200), 20, 8
CHOSEN, PERIOD = 2, 12  # the last so many checkpoints are tried, so many epochs apart
CHOOSING = 1_000_103  # seed of the tasks on which one is chosen


def meta_train(
    agent: agents.LearnedAgent, epochs: int, stop: int, lr: float, seed: int
) -> tuple[int, list[float]]:
    """Train the agent's network in place for ``stop`` of ``epochs``, and leave it at its best checkpoint.

    Returns:
        The epoch of that checkpoint, and the mean loss of every epoch.
    """
    outer = torch.optim.Adam(agent.parameters(), lr=lr)
    total = sum(LENGTHS[epoch % len(LENGTHS)] for epoch in range(epochs))
    history: list[float] = []
    done, best = 0, (math.inf, 0, agent.net.state_dict())
    bar = tqdm(range(stop), desc="meta-training", unit="epoch")
    for epoch in bar:
        steps = LENGTHS[epoch % len(LENGTHS)]
        env = against_tuned.made(TASKS[epoch % len(TASKS)], steps)
        keys, losses = keys_from_seed(seed, BATCH, first=BATCH * epoch), []
        for run in optenvs.unroll_windows(
            env, agent, steps=steps, truncation=TRUNCATION, keys=keys, second_order=False
        ):
            loss = run.merit[1:].mean()
            outer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(agent.parameters(), 1.0)
            outer.param_groups[0]["lr"] = lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done / total)))
            outer.step()
            losses.append(loss.item())
            done += TRUNCATION
        history.append(sum(losses) / len(losses))
        bar.set_postfix(loss=f"{history[-1]:.3f}", steps=steps)
        left = epochs - 1 - epoch
        if epoch == stop - 1 or (left % PERIOD == 0 and left < CHOSEN * PERIOD):
            found = chosen_by(agent)
            print(f"\nepoch {epoch + 1}: mean loss {found:.4f} on tasks of the choice", flush=True)
            if found < best[0]:
                best = (found, epoch + 1, copy.deepcopy(agent.net.state_dict()))
    agent.net.load_state_dict(best[2])
    return best[1], history


def chosen_by(agent: agents.Agent) -> float:
    """The mean loss over the steps on tasks that are used for the choice alone."""
    keys, steps = keys_from_seed(CHOOSING, BATCH), LENGTHS[-2]
    told = [against_tuned.course(against_tuned.made(task, steps), agent, keys, steps)[0] for task in TASKS]
    return torch.stack(told).mean().item()


def main(arguments: list[str] | None = None) -> None:
    """Train, save, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rule", choices=tuple(RULES), default="lolv2")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--stop", type=int, help="end after so many, as if those to come were still planned")
    parser.add_argument("--lr", type=float, default=5e-3, help="of Adam on the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-table", action="store_true", help="train alone")
    parser.add_argument("--out", type=Path, default=Path("results/meta_train_small_networks"))
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # the tensors are small: threads would cost more than they give
    agent, start = agents.make(options.rule, seed=options.seed, **RULES[options.rule]), time.process_time()
    stop = options.epochs if options.stop is None else options.stop
    epoch, history = meta_train(agent, options.epochs, stop, options.lr, options.seed)
    print("losses of the epochs:", " ".join(f"{loss:.3f}" for loss in history))
    print(f"best checkpoint: epoch {epoch}; {time.process_time() - start:.0f} seconds of a core")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.rule}-{NAME}.safetensors"
    agent.save(file)
    print(f"{file}: SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
    if not options.no_table:
        columns = against_tuned.COLUMNS[NAME]
        print(against_tuned.table(columns, against_tuned.compare(columns, agent, options.rule)))


if __name__ == "__main__":
    main()
