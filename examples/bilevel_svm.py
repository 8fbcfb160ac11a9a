"""Two values of one method: F at the pair it holds falls fast, Phi at the exact lower solution does not.

    python examples/bilevel_svm.py

LV-HBA with the settings of its published scripts (alpha = 0.01, beta = 0.1, eta = 0.01, gamma = 10, c_k =
sqrt(k + 1), lambda0 = z0 = 1; 80 iterations of two queries) on the penalties of a support vector machine,
beside exact descent on Phi (20 queries). Both environments measure both values: ``upper_value`` is F(x, y),
``value`` Phi(x) = F(x, y*(x)) by Newton's method. The penalties hardly move in 80 iterations: what falls is
y's part of F.

Means of 4 instances:

                                           F(x, y)   Phi(x)   distance of y   test accuracy: y, y*(x)
    BilevelSvm       start                   15.72     8.306        11.38              0.724    0.941
      LV-HBA         20 iterations            0.98     8.307        13.04              0.971    0.941
                     80 iterations            0.34     8.305        11.84              0.969    0.941
      descent on Phi 20 hypergradients        3.17     2.838         0.13              0.954    0.957
    BilevelCleaning  start                    9.21     8.133         5.06              0.568    0.778
      LV-HBA         20 iterations            0.56     8.133         4.69              0.750    0.778
                     80 iterations            0.16     8.163         3.92              0.722    0.774
      descent on Phi 20 hypergradients        2.68     2.574         0.03              0.868    0.873

F at a pair says little about Phi as long as y has not caught up with x.
"""

from __future__ import annotations

import agents
import optenvs

PUBLISHED = {
    "alpha": 0.01,
    "beta": 0.1,
    "eta": 0.01,
    "gamma1": 10.0,
    "gamma2": 10.0,
    "power": 0.5,
    "lambda0": 1.0,
    "z0": 1.0,
    "scale": False,
}
INSTANCES = 4
COLUMNS = ("upper_value", "value", "distance", "test_accuracy", "solution_accuracy")


def course(name: str, agent: str, steps: tuple[int, ...], **settings: float) -> None:
    """Print the means over the instances at the start and after so many queries."""
    env = optenvs.make(name, evaluation_period=steps, budget=None)
    run = optenvs.rollout(env, agents.make(agent, **settings), batch=INSTANCES, steps=steps[-1])
    for query in (0, *steps):
        values = [float(run.metrics[column][query].mean()) for column in COLUMNS]
        print(f"{name:16s} {agent:14s} {query:4d}" + "".join(f"{value:9.3f}" for value in values))


def main() -> None:
    """The table of the docstring."""
    print(f"{'':16s} {'':14s} {'':4s} " + " ".join(f"{column[:8]:>8s}" for column in COLUMNS))
    for name in ("BilevelSvm", "BilevelCleaning"):
        course(name, "lv_hba", (40, 160), **PUBLISHED)
        course(name, "hypergradient", (5, 20))


if __name__ == "__main__":
    main()
