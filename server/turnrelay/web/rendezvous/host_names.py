"""HostNames: the names by which clients reach this relay's HTTP side."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address

_LOCALHOST = "localhost"


class HostNames:
    """A registration is signed for the host that the client dialed. That the Host header says the same proves
    nothing, since whoever passes a challenge on writes it: it has to be one of our own names, too.
    """

    def __init__(self, names: Iterable[str], names_now: Callable[[], Iterable[str]] = tuple) -> None:
        """DNS names, a first label of `*` standing for any, and numeric addresses: `names` for good, and
        what `names_now` tells each time it is asked."""
        self._names = frozenset(name.lower() for name in names)
        self._names_now = names_now

    def include(self, authority: str, local_host: str) -> bool:
        """Whether a Host header names us, on a connection that came in at the address `local_host`.

        `local_host` is empty for a connection that is gone already.
        """
        name = _host_of(authority)
        if not name or not local_host:
            return False
        if name == local_host:
            return True
        if name == _LOCALHOST and ip_address(local_host).is_loopback:
            return True
        _, dot, parent = name.partition(".")
        fitting = {name, f"*.{parent}"} if dot else {name}
        return not fitting.isdisjoint(self._names) or any(
            each.lower() in fitting for each in self._names_now()
        )


def _host_of(authority: str) -> str:
    """The host without the port, an IPv6 address without brackets."""
    text = authority.lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
