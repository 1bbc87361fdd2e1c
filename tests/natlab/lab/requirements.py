"""What a machine must have for the lab, beyond network namespaces."""

import os

from support.requirements import require_program, require_root_and_netns, unavailable


def require_lab() -> None:
    """End the test, with the reason, where no lab can be built: a skip for a person, a failure in CI."""
    require_root_and_netns()
    require_program("nft")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("the NAT lab needs TUN devices, and there is no /dev/net/tun")
