"""What a day at a relay brings, in a few seconds: sessions that go well, and everything that may go wrong."""

import asyncio
import contextlib
import json
import socket
import ssl
import urllib.error
import urllib.request
from typing import Any

from peerpath.calls import OutcomeReporter
from peerpath.ice import AddressPolicy, AgentOptions, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from reliability.turn_peer import StreamClient
from stunwire import (
    REQUESTED_TRANSPORT,
    Message,
    MessageClass,
    Method,
    MethodAttempt,
    NatClass,
    Outcome,
    PathFamily,
    TransportAddress,
    TraversalMethod,
    TraversalOutcome,
)
from support.turnrelay_server import TurnRelayServer

RELAYED = AgentOptions(addresses=AddressPolicy(allow=["127.0.0.0/8"]), relay_only=True)
_MORE_THAN_THE_BURST = 2500


class Traffic:
    """Clients of one relay, whose operator token they have."""

    def __init__(self, relay: TurnRelayServer, operator_token: str) -> None:
        self._relay = relay
        self._operator_token = operator_token
        self._web = f"http://{relay.site.address}:9641"

    def credential(self) -> dict[str, Any]:
        """A credential with the token to report an outcome."""
        status, answer = self._post("/v1/credentials", b'{"name":"peer"}', self._operator_token)
        assert status == 201, answer
        return answer

    async def relayed_session(self, transport: str) -> None:
        """Two peers of the SDK exchange data by the relay; the initiator reports it."""
        credential = self.credential()
        uri = f"turn:{self._relay.site.address}:3478?transport={transport}"
        if transport == "tls":
            uri = f"turns:{self._relay.site.address}:5349?transport=tcp"
        server = IceServer(uri, credential["username"], credential["password"])
        trusted = ssl.create_default_context(cafile=str(self._relay.site.certificates.authority))
        peers = [
            IceEndpoint(
                role, [server], options=RELAYED, hosts=lambda: ["127.0.0.1"], pacer=Pacer(), tls=trusted
            )
            for role in (Role.CONTROLLING, Role.CONTROLLED)
        ]
        started = asyncio.get_running_loop().time()
        async with peers[0] as a, peers[1] as b:
            for peer in peers:
                await peer.gather()
            a.set_remote(b.description)
            b.set_remote(a.description)
            trickling = [asyncio.create_task(_trickle(a, b)), asyncio.create_task(_trickle(b, a))]
            await asyncio.gather(a.nominated(within=20), b.nominated(within=20))
            duration = asyncio.get_running_loop().time() - started
            for number in range(100):
                a.send(b"%d from a" % number)
                assert await asyncio.wait_for(b.recv(), 10) == b"%d from a" % number
            for task in trickling:
                task.cancel()
        method = TraversalMethod(f"relay_{transport}")
        outcome = TraversalOutcome(
            Outcome.CONNECTED,
            method,
            PathFamily.IPV4,
            int(duration * 1000),
            NatClass.SYMMETRIC,
            NatClass.BLOCKED,
            (
                MethodAttempt(TraversalMethod.SRFLX, Outcome.FAILED, PathFamily.IPV4),
                MethodAttempt(method, Outcome.CONNECTED, PathFamily.IPV4),
            ),
        )
        reporter = OutcomeReporter(f"{self._web}/v1/outcomes", lambda: credential["outcome_token"])
        reporter.report(outcome)
        await reporter.close()

    def other_outcomes(self) -> None:
        """A direct path, a failure, one that was given up, and reports that do not count."""
        direct = TraversalOutcome(
            Outcome.CONNECTED,
            TraversalMethod.HOST,
            PathFamily.IPV6,
            120,
            NatClass.OPEN,
            NatClass.OPEN,
            (MethodAttempt(TraversalMethod.HOST, Outcome.CONNECTED, PathFamily.IPV6),),
        )
        failed = TraversalOutcome(
            Outcome.FAILED,
            TraversalMethod.NONE,
            PathFamily.NONE,
            15000,
            NatClass.BLOCKED,
            NatClass.BLOCKED,
            (MethodAttempt(TraversalMethod.RELAY_UDP, Outcome.FAILED, PathFamily.IPV4),),
        )
        given_up = TraversalOutcome(Outcome.CANCELLED, TraversalMethod.NONE, PathFamily.NONE, 900)
        for outcome in (direct, failed, given_up):
            token = self.credential()["outcome_token"]
            self.report(outcome, token, 204)
            self.report(outcome, token, 409)
        self.report(direct, "no token", 401)

    def report(self, outcome: TraversalOutcome, token: str, expected: int) -> None:
        status, answer = self._post("/v1/outcomes", outcome.as_json().encode(), token)
        assert status == expected, answer

    def trouble(self) -> None:
        """Wrong passwords, denied peers, refused allocations, a flood, garbage."""
        relay, credential = self._relay, self.credential()
        server = (relay.site.address, relay.port)
        for _ in range(3):
            with contextlib.suppress(AssertionError):
                StreamClient(server, credential["username"], "a guess").close()
        client = StreamClient(server, credential["username"], credential["password"])
        for port in (53, 80):
            assert (
                client.bind(0x4000, TransportAddress("10.0.0.1", port)).message_class
                is MessageClass.ERROR_RESPONSE
            )
        again = client.request(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
        assert again.message_class is MessageClass.ERROR_RESPONSE
        client.send(0x4001, b"on no channel")
        client.close()
        binding = Message(MessageClass.REQUEST, Method.BINDING).encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.connect(server)
            flood.send(b"\xff garbage")
            for _ in range(_MORE_THAN_THE_BURST):
                flood.send(binding)

    def _post(self, path: str, body: bytes, token: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._web + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


async def _trickle(sender: IceEndpoint, receiver: IceEndpoint) -> None:
    async for local in sender.candidates():
        receiver.add_remote_candidate(local.candidate)
    receiver.add_remote_candidate(None)
