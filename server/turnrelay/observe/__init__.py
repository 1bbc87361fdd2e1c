"""Metrics and structured log: consumers of core events."""
