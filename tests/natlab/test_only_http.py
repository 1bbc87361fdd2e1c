"""Sites that let little out: TCP to port 443 alone, an HTTP proxy alone, nothing at all.

From each of them the SDK connects to sites of the usual kinds and to each other: by TURN over TLS or the
tunnel on the port 443 that our relay shares, through tinyproxy where that is the only way. Where nothing gets
out it says so in time, with what was tried. A short form takes three usual kinds, PEERPATH_LONG=1 all twelve.
"""

import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.proxy_servers import PASSWORD, USER, tinyproxy
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab import ice_peer
from natlab.lab import MATRIX, Lab, Server
from natlab.switchboard import PATIENCE, Meeting, Switchboard

# Name of a site, and its kind.
RESTRICTED = {
    "tcp-443-only": "tcp-443-only",
    "http-proxy": "http-proxy",
    "http-proxy with a password": "http-proxy",
}
USUAL = MATRIX if os.environ.get("PEERPATH_LONG") else ("open", "port-restricted", "symmetric")
OFFLINE = "offline"
PAIRS = [*itertools.product(RESTRICTED, (*USUAL, *RESTRICTED)), *itertools.product(USUAL, RESTRICTED)]
NOWHERE = [*itertools.product([OFFLINE], USUAL), *itertools.product(USUAL, [OFFLINE])]
AT_ONCE = 3
PROXY_PORT = 8888

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Town:
    """The sites on both shores, each with one process of the SDK."""

    def __init__(self, lab: Lab, server: Server, authority: Path, folder: Path, board: str) -> None:
        self._lab, self._server, self._authority = lab, server, authority
        self._folder, self._board = folder, board

    def settle(self, shore: str, name: str) -> None:
        site = self._lab.site(RESTRICTED.get(name, name), delay=0.01)
        # What proxies the person who runs the tests has is nothing to these hosts.
        environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        environment["SSL_CERT_FILE"] = str(self._authority)
        if site.proxy is not None:
            password = name.endswith("password")
            self._start_proxy(f"{shore} {name}", site.proxy, password)
            who = f"{USER}:{PASSWORD}@" if password else ""
            environment["HTTPS_PROXY"] = f"http://{who}{site.proxy.address}:{PROXY_PORT}"
        relay = self._server.address
        uris = [f"stun:{relay}", f"turn:{relay}", f"turns:{relay}:443", f"wss://{relay}/v1/tunnel"]
        argv = [sys.executable, "-P", ice_peer.__file__, self._board, f"{shore} {name}", *uris]
        site.host.popen(argv, env=environment)

    def _start_proxy(self, name: str, host, password: bool) -> None:
        folder = self._folder / name
        folder.mkdir()
        process = tinyproxy(folder, host.address, PROXY_PORT, password=password, namespace=host.namespace)
        host.adopt(process)


@pytest.fixture(scope="module")
def meetings(
    lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Meeting]]:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        server = lab.server()
        folder = tmp_path_factory.mktemp("only-http")
        site = RelaySite.prepare(folder, server.address, namespace=server.namespace)
        access = Access(ice_peer.USER, ice_peer.PASSWORD)
        flags = ["--shared", f"{server.address}:443"]
        stack.enter_context(TurnRelayServer(site, access, flags=flags))
        # The path of a Unix socket is short; that of a test's folder may not be.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="http-")))
        town = Town(lab, server, site.certificates.authority, folder, str(sockets / "board"))
        yield asyncio.run(connect_all(town, str(sockets / "board")))


async def connect_all(town: Town, socket_path: str) -> dict[tuple[str, str], Meeting]:
    switchboard = Switchboard()
    async with await asyncio.start_unix_server(switchboard.answer, socket_path):
        names = [*USUAL, *RESTRICTED, OFFLINE]
        for shore, name in itertools.product(("left", "right"), names):
            town.settle(shore, name)
        await asyncio.wait_for(switchboard.wait_for_computers(2 * len(names)), 60)
        room = asyncio.Semaphore(AT_ONCE)

        async def take_turn(kinds: tuple[str, str]) -> Meeting:
            async with room:
                return await switchboard.connect(kinds, direct=False)

        try:
            pairs = [*NOWHERE, *PAIRS]
            return dict(zip(pairs, await asyncio.gather(*map(take_turn, pairs)), strict=True))
        finally:
            await switchboard.hang_up()


@pytest.mark.parametrize("kinds", PAIRS, ids=" to ".join)
def test_what_little_gets_out_is_enough(meetings: dict[tuple[str, str], Meeting], kinds) -> None:
    meeting = meetings[kinds]
    assert not meeting.trouble, str(meeting)
    assert meeting.has_exchanged
    shut_in = 0 if kinds[0] in RESTRICTED else 1
    carried = meeting.sides[shut_in].path
    assert carried["relayed"]
    if carried["local"] == "relay":
        assert carried["via"] in ("tls", "wss")
        assert carried["proxy"] == ("http" if kinds[shut_in].startswith("http-proxy") else "")
    print(f"{' to '.join(kinds)}: {carried}, usable after {meeting.usable_after:.2f} s")


@pytest.mark.parametrize("kinds", NOWHERE, ids=" to ".join)
def test_where_nothing_gets_out_it_says_so_in_time_with_what_was_tried(meetings, kinds) -> None:
    meeting = meetings[kinds]
    assert meeting.trouble == f"no datagram came through both ways within {PATIENCE:g} s"
    report = meeting.sides[kinds.index(OFFLINE)].report
    for line in (
        "turn:11.0.0.10, relayed address: no answer",
        "turns:11.0.0.10:443, relayed address: ",
        "wss://11.0.0.10/v1/tunnel, relayed address: ",
        "fallback turn: no relayed address",
        "fallback http_tunnel: no relayed address",
        "fallback proxy: not tried, no proxy is configured",
        "fallback onion: not tried, Tor's SOCKS port is not configured",
    ):
        assert line in report
