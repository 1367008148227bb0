"""A deterministic scheduler with a virtual clock and faults on demand, and random histories of a client that uses it.

``run_history(seed, folder)`` plays one: the real keeper, journal, tracker and reconcile on a ``World``, through a
``SimulatedScheduler`` whose answers a ``Plan`` spoils. No process runs, nothing sleeps, and the same seed is the same history.
"""

from .client import Client, SimulatedReceipts
from .history import History, HistoryFailed, run_history
from .plan import Crash, Fault, Plan
from .scheduler import SimulatedScheduler
from .world import Fate, Style, World

__all__ = [
    "Client",
    "Crash",
    "Fate",
    "Fault",
    "History",
    "HistoryFailed",
    "Plan",
    "SimulatedReceipts",
    "SimulatedScheduler",
    "Style",
    "World",
    "run_history",
]
