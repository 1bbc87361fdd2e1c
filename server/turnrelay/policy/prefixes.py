"""Source prefixes: what one subscriber holds, and so what limits are counted for."""

from socket import AF_INET, AF_INET6, inet_pton

_MAPPED = bytes(10) + b"\xff\xff"


def source_prefix(host: str) -> bytes:
    """The /24 of an IPv4 host or the /56 of an IPv6 host, as 3 or 7 bytes.

    An IPv4-mapped IPv6 host counts as the IPv4 host it is. ValueError for anything but a numeric host.
    """
    try:
        if ":" not in host:
            return inet_pton(AF_INET, host)[:3]
        packed = inet_pton(AF_INET6, host.partition("%")[0])
    except OSError:
        raise ValueError(f"{host!r} is no numeric host") from None
    return packed[12:15] if packed.startswith(_MAPPED) else packed[:7]
