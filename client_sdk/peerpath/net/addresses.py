"""Addresses as people and sockets write them."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

from stunwire import TransportAddress


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address; ValueError for anything else."""
    host, port = text.strip(), ""
    bracketed = host.startswith("[")
    if not host or any(character.isspace() or character in "/@?#" for character in host):
        raise ValueError(f"{text!r}: write a host name or address, as in stun.example.org:3478")
    if bracketed:
        host, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{text!r}: write an IPv6 address and port as [2001:db8::1]:3478")
        port = port[1:] if port else ""
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        if not port:
            raise ValueError(f"{text!r}: a port is missing after the colon")
    if not host:
        raise ValueError(f"{text!r}: a host is missing before the colon")
    if bracketed or ":" in host:
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            raise ValueError(f"{text!r}: {host!r} is not an IPv6 address") from None
    if not port:
        return host, default_port
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return host, int(port)


def join_host_port(address: tuple[str, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def from_socket(address: Any) -> TransportAddress:
    """What a socket says of a peer. A link-local scope stays with the host: without it nothing can answer."""
    return TransportAddress(address[0], address[1])


def to_socket(address: tuple[str, int]) -> tuple[str, int] | tuple[str, int, int, int]:
    """What a socket wants to hear: an IPv6 scope as a number."""
    host, port = address[0], address[1]
    if "%" not in host:
        return (host, port) if ":" not in host else (host, port, 0, 0)
    host, _, scope = host.partition("%")
    return host, port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope)


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def is_numeric(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
