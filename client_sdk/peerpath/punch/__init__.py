"""UDP hole punching between two known addresses: `hole_punch` decides, `puncher` carries.

`plan` is what two peers tell each other before they punch through a hard NAT.
"""

from peerpath.punch.hole_punch import HolePunch
from peerpath.punch.plan import PlanError, PunchPlan
from peerpath.punch.puncher import Hole, punch

__all__ = ["Hole", "HolePunch", "PlanError", "PunchPlan", "punch"]
