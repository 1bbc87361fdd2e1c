"""The public address, the NAT's class, and what that means for connecting."""

import asyncio

import arguments
from peerpath import NATTraversal, Settings


async def main() -> None:
    given = arguments.parse(__doc__)
    # A TURN server is asked as well where no STUN server is named, but wants credentials in the settings.
    stun = [server for server in given.server if server.startswith("stun")]
    settings = Settings.load(stun_servers=stun) if stun else Settings.load()
    nat = NATTraversal(settings)

    address = await nat.get_public_address()
    if address is None:
        print(nat.failure)
        return
    print(f"public address: {address.public_ip} {address.public_port}")
    print(f"NAT: {await nat.discover_nat_type()}")
    for peer in ("full_cone", "port_restricted", "symmetric"):
        print(f"direct to a peer behind {peer}: {nat.can_connect_directly(peer)}")


asyncio.run(main())
