"""Solvers that call back (scipy's, IPOPT), on one form of a problem: functions of one point in float64."""
