"""The rendezvous behind nginx, which ends TLS and passes on what docs/rendezvous.md asks for."""

import asyncio
import ssl
import time
from functools import partial
from pathlib import Path

import pytest
from peerpath.identity import Identity
from peerpath.net.dialing import dial_host
from peerpath.signaling import Answering, Dialing, Rendezvous, RendezvousError, ReplayGuard
from support.ports import is_listening, loopback_address
from support.processes import Process
from support.relay import Access, Site
from support.requirements import require_program
from support.turnrelay_server import TurnRelayServer

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen {address}:8443 ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location /v1/rendezvous {{
            proxy_pass http://{relay}:9641;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            {host}
            proxy_read_timeout 90s;
        }}
    }}
}}
"""
LIMITS = "[limits]\nrendezvous_connections_per_prefix = 1\n"


class Nginx:
    """nginx before a relay, each at an address of its own."""

    def __init__(self, folder: Path, address: str, relay: str, host: str) -> None:
        self.site = Site.prepare(folder, address)
        self.url = f"wss://{address}:8443"
        self.tls = ssl.create_default_context(cafile=self.site.certificates.authority)
        self.file = folder / "nginx.conf"
        # Its workers would be nobody's, who may not enter the folder.
        user = "user root;" if folder.owner() == "root" else ""
        certificates = self.site.certificates
        self.file.write_text(
            CONFIGURATION.format(
                folder=folder,
                user=user,
                address=address,
                relay=relay,
                host=host,
                chain=certificates.chain,
                key=certificates.key,
            )
        )

    def run(self) -> Process:
        process = Process([require_program("nginx"), "-c", self.file])
        return process.wait_until(lambda: is_listening(self.site.address, 8443))


@pytest.fixture
def addresses():
    with loopback_address() as relay, loopback_address() as proxy:
        yield relay, proxy


def relay_at(folder, address, proxy):
    (folder / "turnrelay.toml").write_text(LIMITS)
    flags = ["--config", str(folder / "turnrelay.toml"), "--rendezvous-host", proxy]
    # nginx connects from the address of the loopback interface.
    return TurnRelayServer(
        Site.prepare(folder / "relay", address), Access(), flags=[*flags, "--trusted-proxy", "127.0.0.0/8"]
    )


def coming_from(address):
    return partial(dial_host, local_host=address)


async def test_peers_meet_by_tls_and_limits_count_for_each_of_them(tmp_path, addresses):
    relay, proxy = addresses
    nginx = Nginx(tmp_path / "nginx", proxy, relay, "proxy_set_header Host $http_host;")
    server = relay_at(tmp_path, relay, proxy)
    await asyncio.to_thread(server.__enter__)
    try:
        with nginx.run():
            alice, bob = Identity.generate(), Identity.generate()
            async with (
                Rendezvous(nginx.url, alice, tls=nginx.tls, dial=coming_from("127.0.1.1")) as here,
                Rendezvous(nginx.url, bob, tls=nginx.tls, dial=coming_from("127.0.2.1")) as there,
            ):
                channel = here.channel(bob.public_key)
                dialing = Dialing(alice, bob.public_key, now=time.time())
                await channel.send(dialing.seal("offer", {}))
                peer, answer_to = await asyncio.wait_for(anext(there.incoming()), 20)
                assert peer == alice.public_key
                answering = Answering.open_offer(bob, await answer_to.recv(), ReplayGuard(), now=time.time())
                await answer_to.send(answering.seal("answer", {"by": "nginx"}))
                assert dialing.open(await channel.recv()) == ("answer", {"by": "nginx"})
                neighbor = Rendezvous(nginx.url, alice, tls=nginx.tls, dial=coming_from("127.0.1.2"))
                with pytest.raises(RendezvousError, match="no more connections from this network"):
                    await neighbor.__aenter__()
            with pytest.raises(RendezvousError, match="certificate"):
                await Rendezvous(nginx.url, alice).__aenter__()
    finally:
        await asyncio.to_thread(server.__exit__)


async def test_a_proxy_that_changes_the_host_is_noticed(tmp_path, addresses):
    relay, proxy = addresses
    nginx = Nginx(tmp_path / "nginx", proxy, relay, "")  # nginx then writes the name of its upstream
    server = relay_at(tmp_path, relay, proxy)
    await asyncio.to_thread(server.__enter__)
    try:
        reason = "does not accept the proof of this identity"
        with nginx.run(), pytest.raises(RendezvousError, match=reason):
            await Rendezvous(nginx.url, Identity.generate(), tls=nginx.tls).__aenter__()
    finally:
        await asyncio.to_thread(server.__exit__)
