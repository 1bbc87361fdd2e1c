"""What an application may hand over, and what it is told of a slip of the pen."""

import pytest
from peerpath.errors import SettingsError
from peerpath.signaling import memory_pair
from unit.sdk.calls.people import BOB, alice


@pytest.mark.parametrize("privacy", ["relay-only", "Relay_only", "relay_only ", "", "none"])
async def test_a_privacy_that_nobody_knows_is_refused_instead_of_showing_addresses(privacy):
    with pytest.raises(SettingsError) as caught:
        alice(privacy=privacy)
    assert str(caught.value) == f'privacy: write "full" or "relay_only", not {privacy!r}'
    there, _ = memory_pair()
    async with alice() as caller:
        with pytest.raises(SettingsError, match=r'^privacy: write "full" or "relay_only"'):
            caller.connect(BOB.public_key, there, privacy=privacy)
