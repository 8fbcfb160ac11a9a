"""Ranking oracles: which of some points are the best, and in what order; never how good."""
