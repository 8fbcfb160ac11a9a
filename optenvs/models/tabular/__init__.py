"""Reinforcement learners with tables, and the rules by which they learn, learned ones and others."""
