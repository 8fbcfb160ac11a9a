"""Policy search: weights of a policy, asked for trajectories."""
