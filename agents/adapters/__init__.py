"""Agents made of other things: functions, ``torch.optim`` optimizers, trained policies, ask/tell objects."""
