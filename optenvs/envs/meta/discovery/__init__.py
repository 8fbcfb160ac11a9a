"""Discovery of reinforcement learning: learners in grid worlds, and the rules by which they learn."""
