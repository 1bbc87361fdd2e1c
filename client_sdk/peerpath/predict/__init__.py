"""The ports that a NAT will choose next, told from those that it has chosen. Sans-IO."""

from peerpath.predict.pattern import PORTS, Pattern, PortPattern, pattern_of
from peerpath.predict.sampling import Sample, Sampled, Sampler, SendSample

__all__ = [
    "PORTS",
    "Pattern",
    "PortPattern",
    "Sample",
    "Sampled",
    "Sampler",
    "SendSample",
    "pattern_of",
]
