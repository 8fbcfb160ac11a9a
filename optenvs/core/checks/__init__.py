"""The single checks behind :func:`optenvs.check`, each a generator of sentences about what is wrong.

A check is given a :class:`~optenvs.core.checks.probe.Probe` (an episode that has been run) and yields one
sentence a fault; it raises :class:`~optenvs.core.checks.probe.NotApplicable` with a reason where it has none
to look at.
"""
