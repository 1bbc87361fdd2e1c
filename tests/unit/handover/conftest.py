"""The server among fakes is that of the core's tests."""

from unit.core.conftest import alice, bob, world

__all__ = ["alice", "bob", "world"]
