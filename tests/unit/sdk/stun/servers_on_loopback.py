"""STUN servers of this process on loopback, good and bad ones."""

import contextlib
import time

from peerpath.net.datagrams import DatagramSocket
from peerpath.net.resolving import ResolveError, Resolver, ServiceTarget
from stunwire import ALTERNATE_SERVER, XOR_MAPPED_ADDRESS, Message, TransportAddress


class LoopbackServer:
    """Answers after `delay` seconds, or not at all (`deaf`), or with what `answer` makes of a request."""

    def __init__(self, host="127.0.0.1", *, delay=0.0, deaf=False, answer=None, mapped=None):
        self._host, self._delay, self._deaf, self._mapped = host, delay, deaf, mapped
        self._answer = answer or self._success
        self.asked_at = []

    async def __aenter__(self):
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._socket = await DatagramSocket.open((self._host, 0), self._received)
        return self

    async def __aexit__(self, *_):
        self._socket.close()

    @property
    def address(self):
        return self._socket.local

    def _received(self, data, source):
        self.asked_at.append(time.monotonic())
        if not self._deaf:
            response = self._answer(Message.decode(data), source)
            self._loop.call_later(self._delay, self._socket.send, response.encode(), source)

    def _success(self, request, source):
        return Message.success_to(request).add(XOR_MAPPED_ADDRESS, self._mapped or source)


def redirect_to(address):
    return lambda request, source: Message.error_to(request, 300).add(ALTERNATE_SERVER, address)


def refuse(code):
    return lambda request, source: Message.error_to(request, code)


class Names(Resolver):
    """A resolver with a table; names that are not in it lead nowhere."""

    def __init__(self, hosts=(), services=()):
        self.hosts, self.known_services = dict(hosts), dict(services)

    async def addresses(self, host, port):
        if host in self.hosts:
            return [TransportAddress(each, port) for each in self.hosts[host]]
        with contextlib.suppress(ValueError):
            import ipaddress

            ipaddress.ip_address(host)
            return [TransportAddress(host, port)]
        raise ResolveError(f"{host} has no address: not in the table")

    async def services(self, service, protocol, domain):
        return [ServiceTarget(*each) for each in self.known_services.get((service, protocol, domain), ())]
