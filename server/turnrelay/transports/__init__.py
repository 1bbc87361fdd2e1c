"""Listeners and the driver that carries the core's outputs out."""
