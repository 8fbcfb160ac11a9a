"""Decentralized optimization over a network of nodes."""
