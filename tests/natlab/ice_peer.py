"""One computer of the matrix: holds ICE sessions for whoever sits at the other end of a Unix socket.

    python ice_peer.py SOCKET NAME [OPTION...] URI...

With --tcp connections are used where UDP is blocked. With --port-mapping the router is asked to forward a
port. With --punch a call that stays relayed for half a second goes on with plans for hard NATs; with
--no-primer the first packet from each socket goes all the way then. With --onion=SOCKS nothing leaves but
to Tor's port there. With --relay-only no path is used but those through relays.

It says hello with NAME, and then one JSON object a line goes each way. They name their session; what a
session sends as "signal" is for the peer's session of the same number, and comes to it as it is.

    in:   call                begin a session as the controlling side
          signal              of the peer; the first one, its description, begins a session on the other side
          exchange            have a few datagrams answered by the peer
          end                 close the session, say what was tried
    out:  began, heard        this side has begun; the peer's first datagram has come
          path                where data goes from now on
          exchanged, ended    done
          failed              why it could not be done

Proxies are those that the environment names, as for any program. Every event has the time as `at`, seconds of
the monotonic clock, which all processes of a machine share.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from peerpath.ice import AgentOptions, DataReceived, NotConnected, Output, PairSelected, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.json_form import (
    candidate_from_json,
    candidate_to_json,
    description_from_json,
    description_to_json,
)
from peerpath.ice.relay_plan import RelayOptions
from peerpath.net.proxies import Proxy
from peerpath.net.proxy_rules import ProxyRules
from peerpath.portmap import find_gateway
from peerpath.punch.limits import PunchLimits
from peerpath.punch.plan import PunchPlan
from peerpath.punch.tactics import NoTactic

USER, PASSWORD = "alice", "wonderland"
EXCHANGED = 3  # datagrams that each side has answered at the end
_PATIENCE = 0.5
_REPEAT = 0.05  # seconds until a datagram without an answer is sent again

Message = dict[str, Any]


class Session:
    """From the call, or the peer's description, to the end."""

    def __init__(
        self, servers: list[IceServer], options: list[str], tell: Callable[[str, Message], None]
    ) -> None:
        self._servers = servers
        self._options = options
        self._tell = tell
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._answered: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_heard = self._has_planned = False

    async def run(self) -> None:
        try:
            await self._run()
        except Exception as error:
            self._tell("failed", {"reason": f"{type(error).__name__}: {error}"})
        finally:
            for task in self._tasks:
                task.cancel()

    async def _run(self) -> None:
        first = await self.inbox.get()
        self._tell("began", {})
        role = Role.CONTROLLING if first["do"] == "call" else Role.CONTROLLED
        gateways = find_gateway if "--port-mapping" in self._options else None
        tcp = "--tcp" in self._options
        punching = PunchLimits(primer_ttl=None) if "--no-primer" in self._options else PunchLimits()
        async with IceEndpoint(
            role,
            self._servers,
            gateways=gateways,
            punching=punching,
            relaying=self._relaying(),
            tcp=tcp,
            options=AgentOptions(relay_only="--relay-only" in self._options),
        ) as self._endpoint:
            self._endpoint.on_output = self._happened
            await self._endpoint.gather()
            if first["do"] == "signal":
                self._endpoint.set_remote(description_from_json(first["description"]))
            self._signal(description=description_to_json(self._endpoint.description))
            self._spawn(self._trickle())
            if "--punch" in self._options and role is Role.CONTROLLING:
                self._spawn(self._call_for_punching())
            while (message := await self.inbox.get())["do"] != "end":
                self._obey(message)
            report = str(self._endpoint.report())
        self._tell("ended", {"report": report})

    def _relaying(self) -> RelayOptions:
        onion = [option for option in self._options if option.startswith("--onion=")]
        if onion:
            return RelayOptions(tor=Proxy.tor(onion[0].partition("=")[2]), onion_only=True)
        return RelayOptions(proxies=ProxyRules.from_environment(os.environ))

    def _obey(self, message: Message) -> None:
        if message["do"] == "exchange":
            self._spawn(self._exchange())
        elif "description" in message:
            self._endpoint.set_remote(description_from_json(message["description"]))
        elif "plan" in message:
            self._spawn(self._punch(PunchPlan.from_json(message["plan"])))
        else:
            candidate = message["candidate"]
            self._endpoint.add_remote_candidate(candidate and candidate_from_json(candidate))

    async def _trickle(self) -> None:
        while True:
            async for local in self._endpoint.candidates():
                self._signal(candidate=candidate_to_json(local.candidate))
            self._signal(candidate=None)

    def _signal(self, **content: Any) -> None:
        self._tell("signal", {"do": "signal", **content})

    # Hard NATs ----------------------------------------------------------------------------------------------

    async def _call_for_punching(self) -> None:
        await self._endpoint.connect()
        await asyncio.sleep(_PATIENCE)
        if self._endpoint.path is None or self._endpoint.path.is_relayed:
            await self._plan()

    async def _plan(self) -> None:
        plan = await self._endpoint.hard_nat_plan()
        self._has_planned = True
        self._signal(plan=plan.as_json())

    async def _punch(self, theirs: PunchPlan) -> None:
        if not self._has_planned:
            await self._plan()
        decision = self._endpoint.begin_punch(theirs)
        reason = decision.reason if isinstance(decision, NoTactic) else ""
        self._tell("punch", {"reason": reason, "chance": getattr(decision, "chance", 0.0)})

    # Data ---------------------------------------------------------------------------------------------------

    def _happened(self, output: Output) -> None:
        if isinstance(output, DataReceived):
            self._received(output.data)
        elif isinstance(output, PairSelected):
            path = output.path
            self._tell(
                "path",
                {
                    "local": path.local.type.value,
                    "remote": path.remote.type.value,
                    "nominated": path.nominated,
                    "relayed": path.is_relayed,
                    "transport": path.local.candidate.transport,
                    "via": path.local.via,
                    "proxy": path.local.proxy,
                    "technique": path.local.technique.value,
                },
            )
            if 0 not in self._answered:
                self._spawn(self._ask(0))

    def _received(self, data: bytes) -> None:
        word, number = data.split()
        if word == b"answer":
            self._answered[int(number)].set()
            return
        if not self._has_heard:
            self._has_heard = True
            self._tell("heard", {})
        self._send(b"answer " + number)

    async def _ask(self, number: int) -> None:
        """As UDP applications do: again and again until it is answered."""
        answered = self._answered[number] = asyncio.Event()
        while not answered.is_set():
            self._send(b"ask %d" % number)
            with suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), _REPEAT)

    async def _exchange(self) -> None:
        await asyncio.gather(*(self._ask(number) for number in range(1, EXCHANGED + 1)))
        self._tell("exchanged", {})

    def _send(self, data: bytes) -> None:
        # Data may come before this side has a path of its own; the peer will ask again.
        with suppress(NotConnected):
            self._endpoint.send(data)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(socket_path: str, name: str, arguments: list[str]) -> None:
    """All sessions, until the socket is closed."""
    options = [argument for argument in arguments if argument.startswith("--")]
    uris = [argument for argument in arguments if not argument.startswith("--")]
    servers = [IceServer(uri, *((USER, PASSWORD) if not uri.startswith("stun") else ())) for uri in uris]
    reader, writer = await asyncio.open_unix_connection(socket_path)
    sessions: dict[int, Session] = {}
    running: set[asyncio.Task[None]] = set()

    def tell(number: int | None, event: str, content: Message) -> None:
        message = {"session": number, "event": event, "at": time.monotonic(), **content}
        writer.write(json.dumps(message).encode() + b"\n")

    tell(None, "hello", {"name": name})
    while line := await reader.readline():
        message = json.loads(line)
        number = message["session"]
        if number not in sessions:
            sessions[number] = Session(
                servers, options, lambda event, content, number=number: tell(number, event, content)
            )
            task = asyncio.create_task(sessions[number].run())
            running.add(task)
            task.add_done_callback(running.discard)
        sessions[number].inbox.put_nowait(message)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3:]))
