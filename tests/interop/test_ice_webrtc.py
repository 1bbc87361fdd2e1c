"""The SDK's agent and the WebRTC stacks that applications embed: libdatachannel and libwebrtc.

Two of their peers open a data channel that runs over two of our agents: each of ours is the ICE peer of one
of theirs and hands all data to the other. DTLS and SCTP pass through, so an echo proves both ways of both.
"""

import asyncio
import contextlib
import json
import re

import pytest
from interop.test_node_webrtc import NODE, node  # noqa: F401
from peerpath.ice import AgentOptions, AgentState, DataReceived, NotConnected, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.sdp import format_description, parse_description
from support.netns import inside
from support.relay import uri_of

HOST = "10.77.0.2"
ICE_LINES = re.compile(
    r"^a=(?:candidate|ice-ufrag|ice-pwd|ice-options|end-of-candidates)\b.*\r?\n", re.MULTILINE
)


class WebRtcPeer:
    """One of their peers, as a program."""

    def __init__(self, process):
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, program, library, host, **wanted):
        process = await asyncio.create_subprocess_exec(
            *host.prefix,
            program,
            "webrtc_peer.cjs",
            library,
            json.dumps({"iceServers": []} | wanted),
            cwd=NODE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield cls(process)
        finally:
            process.kill()
            await process.wait()

    async def hear(self, key):
        async with asyncio.timeout(20):
            while True:
                line = await self._process.stdout.readline()
                assert line, "their peer has ended"
                document = json.loads(line)
                assert "error" not in document, document
                if key in document:
                    return document

    def tell(self, kind, sdp):
        self._process.stdin.write(json.dumps({"type": kind, "sdp": sdp}).encode() + b"\n")


def with_our_ice(sdp, endpoint):
    """Their description with our agent's ICE in the place of theirs."""
    kept = ICE_LINES.sub("", sdp)
    return kept + "\r\n".join(format_description(endpoint.description)) + "\r\n"


def join(left, right):
    """All data of one endpoint goes out at the other."""
    for source, sink in ((left, right), (right, left)):

        def pass_on(output, sink=sink):
            if isinstance(output, DataReceived):
                with contextlib.suppress(NotConnected):
                    sink.send(output.data)

        source.on_output = pass_on


async def gather(endpoint, host):
    with inside(host):
        await endpoint.gather()
        async for _ in endpoint.candidates():
            pass


def our_endpoint(role, servers, *, relay_only):
    return IceEndpoint(
        role,
        servers,
        options=AgentOptions(relay_only=relay_only),
        hosts=lambda: [HOST],
        rescan=0,
        pacer=Pacer(),
        patience=10,
    )


@pytest.mark.parametrize("relay_only", [False, True], ids=["direct", "relayed"])
@pytest.mark.parametrize("library", ["libdatachannel", "libwebrtc"])
async def test_a_data_channel_runs_over_our_agents(library, relay_only, node, wired_subject, client_host):  # noqa: F811
    access, uri = wired_subject.access, uri_of(wired_subject, "udp")
    servers = [IceServer(uri, access.username, access.password)] if relay_only else []
    wanted = {"relayOnly": relay_only}
    if relay_only:
        server = {"urls": uri, "username": access.username, "credential": access.password}
        wanted["iceServers"] = [server]
    async with (
        our_endpoint(Role.CONTROLLED, servers, relay_only=relay_only) as towards_caller,
        our_endpoint(Role.CONTROLLING, servers, relay_only=relay_only) as towards_callee,
        WebRtcPeer.start(node, library, client_host, offer=True, **wanted) as caller,
        WebRtcPeer.start(node, library, client_host, offer=False, **wanted) as callee,
    ):
        await gather(towards_caller, client_host)
        await gather(towards_callee, client_host)
        join(towards_caller, towards_callee)

        offer = (await caller.hear("sdp"))["sdp"]
        callee.tell("offer", with_our_ice(offer, towards_callee))
        answer = (await callee.hear("sdp"))["sdp"]
        caller.tell("answer", with_our_ice(answer, towards_caller))
        for endpoint, sdp in ((towards_caller, offer), (towards_callee, answer)):
            description, _ = parse_description(sdp)
            endpoint.set_remote(description)
            endpoint.add_remote_candidate(None)

        for endpoint in (towards_caller, towards_callee):
            await endpoint.nominated(within=15)
            assert endpoint.path.is_relayed is relay_only
        assert (await caller.hear("echoed"))["echoed"] == 100
        assert towards_caller.state is towards_callee.state is AgentState.COMPLETED
