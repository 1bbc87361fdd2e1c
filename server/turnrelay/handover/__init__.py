"""One process of the relay gives everything to the next one and ends; docs/stopping.md and ADR 10 tell how.

The predecessor runs and is asked to upgrade, the successor is what it starts. Only the two of them are here,
what they say, and what that looks like.
"""
