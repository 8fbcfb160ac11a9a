"""Meta-training: what is learned is the rule by which episodes of another problem are played."""
