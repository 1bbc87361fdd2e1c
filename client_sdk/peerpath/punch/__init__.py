"""UDP hole punching between two known addresses: `hole_punch` decides, `puncher` carries."""

from peerpath.punch.hole_punch import HolePunch
from peerpath.punch.puncher import Hole, punch

__all__ = ["Hole", "HolePunch", "punch"]
