"""What fields mean that many environments have, for whoever asks what there is to see."""

from __future__ import annotations

MEANINGS = {
    "action": "the point asked, where the oracle answers",
    "point": "where the oracle has answered",
    "value": "the objective there",
    "gradient": "the gradient of the objective there",
    "k": "queries so far, that of reset not counted",
    "N": "queries after that of reset that the budget pays, at the price on the list",
    "spent": "the largest share of any limit of the budget used so far",
    "query": "where the oracle is asked",
    "recommendation": "the point that the agent stands behind: it is judged, unbilled",
    "metric value": "the true objective, at the point that is judged",
    "gap": "how far the true objective is from its best possible value",
    "distance": "of the point that is judged from the solution, Euclidean",
    "outside": "1 where the point that is judged lies outside of the box, and earns no credit",
    "want": "which kinds of answer are asked, by kind",
    "answered": "which kinds of answer have been given, by kind",
    "vector": "what the Hessian is multiplied by",
    "hvp": "the Hessian's product with the vector",
    "hessian": "the Hessian",
}
"""By the name of a field of observations, actions or metrics, or by "metric NAME" where that is another."""
