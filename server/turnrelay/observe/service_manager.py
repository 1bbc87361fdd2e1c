"""What systemd is told of the process, by the protocol of sd_notify(3)."""

import os
import socket
from contextlib import suppress


def tell_service_manager(state: str) -> None:
    """`READY=1`, `MAINPID=...`; nothing where no service manager asks for it (Type=notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
