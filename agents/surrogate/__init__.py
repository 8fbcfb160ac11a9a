"""Agents for networks under constraints: directional attacks, direct searches, walks on linear pieces."""
