"""Why an address cannot be listened on, in words that say what to do."""

import errno
import os

_ADVICE = {
    errno.EADDRINUSE: "is another relay running there? ",
    errno.EADDRNOTAVAIL: "it is no address of this machine; ",
    errno.EACCES: "low ports take the capability CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities), or ",
}


def listen_fault(error: OSError, host: str, port: int, choose: str) -> str:
    """`choose` names the settings of another address."""
    # The event loop repeats the address in its texts.
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = _ADVICE.get(error.errno or 0, "")
    return f"cannot listen on {host} port {port}: {reason}; {advice}choose another {choose}"
