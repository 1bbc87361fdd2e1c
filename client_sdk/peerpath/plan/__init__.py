"""Which ways to a peer are worth trying, in which order, and why the others are not: pure functions."""

from peerpath.plan.planner import make_plan
from peerpath.plan.policy import Policy
from peerpath.plan.strategy import ConnectionPlan, LeftOut, Side, Step, Strategy

__all__ = ["ConnectionPlan", "LeftOut", "Policy", "Side", "Step", "Strategy", "make_plan"]
