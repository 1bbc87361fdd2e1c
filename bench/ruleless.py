"""A server that answers as TURN does and decides nothing: what the same answers cost without the rules.

One user whose key it knows, one nonce for all, no limits, no permissions, no lifetimes, nothing relayed. It
reads, checks and writes messages with `stunwire`, makes the sockets of relayed addresses, and keeps them. A
relay in Python spends this and the rules.
"""

import select
import socket
import sys

from stunwire import (
    LIFETIME,
    NONCE,
    REALM,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    DecodeError,
    Integrity,
    Message,
    Method,
    TransportAddress,
    long_term_key,
)

_NONCE = "obMatJos2AAAA" + 24 * "0"
_BATCH = 64
_FIRST_PORT, _LAST_PORT = 49152, 65535


class Ruleless:
    def __init__(self, server: str, relay: str, key: bytes, realm: str) -> None:
        self._relay, self._key, self._realm = relay, key, realm
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._port = _FIRST_PORT
        self._poll = select.epoll()
        self._server = server

    def answer(self, request: Message, source: tuple[str, int]) -> bytes:
        """Whatever is asked for, for whoever knows the key."""
        if request.method == Method.BINDING:
            return self._success(request, source).encode()
        if NONCE not in request:
            challenge = Message.error_to(request, 401)
            return challenge.add(REALM, self._realm).add(NONCE, _NONCE).encode()
        if not request.verify(self._key, Integrity.SHA1):
            return Message.error_to(request, 401).encode()
        if request.method == Method.ALLOCATE:
            relayed = TransportAddress(self._relay, self._allocate(source))
            answer = self._success(request, source).add(XOR_RELAYED_ADDRESS, relayed).add(LIFETIME, 3600)
        elif request.method == Method.REFRESH:
            self._end(source)
            answer = Message.success_to(request).add(LIFETIME, 0)
        else:
            answer = Message.success_to(request)
        return answer.encode(self._key)

    def serve(self, port: int, tls_port: int) -> None:
        """Until it is killed. The streams are there for whoever waits for them, and are not served."""
        streams = [socket.create_server((self._server, number)) for number in (port, tls_port)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((self._server, port))
            sock.setblocking(False)
            self._poll.register(sock, select.EPOLLIN)
            while streams:
                self._poll.poll()
                for _ in range(_BATCH):
                    try:
                        data, source = sock.recvfrom(2048)
                        sock.sendto(self.answer(Message.decode(data), source), source)
                    except BlockingIOError:
                        break
                    except DecodeError:
                        continue

    def _success(self, request: Message, source: tuple[str, int]) -> Message:
        return Message.success_to(request).add(XOR_MAPPED_ADDRESS, TransportAddress(*source))

    def _allocate(self, source: tuple[str, int]) -> int:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            self._port = self._port + 1 if self._port < _LAST_PORT else _FIRST_PORT
            try:
                sock.bind((self._relay, self._port))
            except OSError:
                continue
            break
        sock.setblocking(False)
        self._poll.register(sock, select.EPOLLIN)
        self._end(source)
        self._sockets[source] = sock
        return self._port

    def _end(self, source: tuple[str, int]) -> None:
        if (sock := self._sockets.pop(source, None)) is not None:
            sock.close()


def main() -> None:
    server, relay, port, tls_port, realm, user, password = sys.argv[1:]
    Ruleless(server, relay, long_term_key(user, realm, password), realm).serve(int(port), int(tls_port))


if __name__ == "__main__":
    main()
