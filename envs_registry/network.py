"""Decentralized optimization: nodes with private functions on a graph."""

from .spec import EnvSpec

_DADAO = "Nabli and Oyallon, DADAO: Decoupled Accelerated Decentralized Asynchronous Optimization, 2023"


def _network(name: str, path: str, summary: str, *oracles: str) -> EnvSpec:
    return EnvSpec(
        id=f"optenvs/{name}-v0",
        entry_point=f"optenvs.envs.network.{path}",
        family="network",
        oracles=(*oracles, "exchange", "gossip"),
        summary=summary,
        reference=_DADAO,
        best_known=0.0,
        multi_agent=True,
    )


NETWORK = (
    _network(
        "NetworkQuadratic",
        "quadratic:NetworkQuadratic",
        "Nodes with private quadratics on a graph; the solution has a closed form",
        "gradient",
        "conjugate",
    ),
    _network(
        "NetworkLinear",
        "linear:NetworkLinear",
        "Linear regression over nodes with samples of their own, as in the comparisons of DADAO",
        "gradient",
        "conjugate",
    ),
    _network(
        "NetworkLogistic",
        "logistic:NetworkLogistic",
        "Logistic regression over nodes with synthetic samples, or with real data dealt out to them",
        "gradient",
    ),
    EnvSpec(
        id="optenvs/NetworkDigits-v0",
        entry_point="optenvs.envs.network.digits:NetworkDigits",
        family="network",
        oracles=("gradient", "exchange", "gossip"),
        summary="A neural network trained by nodes that share the handwritten digits",
        reference="Nabli, Belilovsky and Oyallon, A2CiD2: Accelerating Asynchronous Communication, 2023",
        needs=("scikit-learn",),
        multi_agent=True,
    ),
)
