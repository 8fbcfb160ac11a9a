"""Particle methods: consensus-based optimization and its relatives, as agents of a swarm."""
