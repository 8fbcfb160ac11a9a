"""Networks on data: one query is one parameter vector, answered on the next minibatch."""
