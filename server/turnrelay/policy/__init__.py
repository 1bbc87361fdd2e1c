"""What the operator decides: who may authenticate, which peers, how much.

Implements turnrelay.core.protocols; decides nothing about TURN itself.
"""
