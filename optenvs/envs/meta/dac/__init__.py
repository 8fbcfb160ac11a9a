"""Dynamic algorithm configuration: hyper-parameters of gradient descent as actions, as in DACBench."""
