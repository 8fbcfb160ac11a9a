"""The contract and everything that only needs the contract."""

from .env import Answer, Instance, OptimizationEnv, State
from .errors import BudgetSpent, InvalidAction, OracleMismatch, UnknownKeyword, UnknownName
from .ledger import Ledger
from .menu import Judgement, Kind, MenuEnv, Offer, Query
from .nested import Episodes, Stream, Window, advance
from .random import Keys, fold_in, keys_from_seed
from .resources import Resource
from .rollout import Run, rollout, unroll, unroll_windows
from .snapshot import load, save
from .struct import static, struct
from .threads import Threads

__all__ = [
    "Answer",
    "BudgetSpent",
    "Episodes",
    "Instance",
    "InvalidAction",
    "Judgement",
    "Keys",
    "Kind",
    "Ledger",
    "MenuEnv",
    "Offer",
    "OptimizationEnv",
    "OracleMismatch",
    "Query",
    "Resource",
    "Run",
    "State",
    "Stream",
    "Threads",
    "UnknownKeyword",
    "UnknownName",
    "Window",
    "advance",
    "fold_in",
    "keys_from_seed",
    "load",
    "rollout",
    "save",
    "static",
    "struct",
    "unroll",
    "unroll_windows",
]
