"""First-order methods: one gradient a step."""
