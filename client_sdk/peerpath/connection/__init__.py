"""What the application holds: messages, streams and datagrams to one peer. It outlives links and paths.

`messages` (sans-IO) makes messages survive links, `streams` are for what is too large for a message, and
`connection` drives a link of peerpath.quic on the event loop. How a path is found is no business of it.
"""

from peerpath.connection.connection import Connection
from peerpath.connection.errors import ConnectionClosed, DatagramTooLarge, MessageTooLarge, StreamError
from peerpath.connection.options import ConnectionOptions
from peerpath.connection.path import Path, PathEvent, PathKind, path_from_ice
from peerpath.connection.report import ConnectionReport
from peerpath.connection.state import ConnectionState
from peerpath.connection.statistics import ConnectionStats
from peerpath.connection.streams import Stream

__all__ = [
    "Connection",
    "ConnectionClosed",
    "ConnectionOptions",
    "ConnectionReport",
    "ConnectionState",
    "ConnectionStats",
    "DatagramTooLarge",
    "MessageTooLarge",
    "Path",
    "PathEvent",
    "PathKind",
    "Stream",
    "StreamError",
    "path_from_ice",
]
