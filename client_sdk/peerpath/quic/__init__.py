"""One QUIC connection (RFC 9000) between two identities, over a path that somebody else owns.

`certificate` makes and judges what an identity shows, `handshake` makes aioquic demand it of both sides,
`path_mtu` finds how large packets may be, `link` is the whole as values in, values out. No sockets, no event
loop, and nothing about messages in here.
"""

from peerpath.quic.certificate import CertificateRefused, check_certificate, make_certificate
from peerpath.quic.link import CONTROL_STREAM, SecureLink
from peerpath.quic.options import ALPN, SMALLEST_PAYLOAD, LinkOptions, LinkRole
from peerpath.quic.outputs import (
    CloseCode,
    DatagramReceived,
    Established,
    LinkClosed,
    LinkOutput,
    StreamData,
    StreamReset,
    StreamStopped,
    Transmit,
)
from peerpath.quic.path_mtu import LARGEST_PAYLOAD

__all__ = [
    "ALPN",
    "CONTROL_STREAM",
    "LARGEST_PAYLOAD",
    "SMALLEST_PAYLOAD",
    "CertificateRefused",
    "CloseCode",
    "DatagramReceived",
    "Established",
    "LinkClosed",
    "LinkOptions",
    "LinkOutput",
    "LinkRole",
    "SecureLink",
    "StreamData",
    "StreamReset",
    "StreamStopped",
    "Transmit",
    "check_certificate",
    "make_certificate",
]
