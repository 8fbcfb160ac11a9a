"""Agents that share a problem among the nodes of a network, by gradients of their own and messages."""
