"""Group arithmetic learned by small networks: grokking, and the energy of its features."""
