"""A self-hosted STUN/TURN relay."""

__version__ = "0.1.0"
