"""NAT traversal for chat clients."""

__version__ = "0.1.0"
