"""coturn's test client, `turnutils_uclient`, and what its flags really do.

Read in the source of the version that Debian 12 ships (4.6.1); the manual page leaves most of it out.

- Its exit code says nothing of loss: it ends with 0 once it has waited long enough for what is missing.
  Loss is in the closing lines only, and the closing loss is `max(sent - received, 0)`: a message that came
  twice hides one that was lost. So both counts are read, from the lines printed before that subtraction.
- Each session starts with a probe: an Allocate whose allocation is left to the server to expire, then the
  real one from another port. So a run of 2 clients takes 3 allocations (4 clients: 5), and a quota has to
  bear it.
- `-y`: the clients of the run come in pairs that send to each other's relayed address, so every message
  goes through two allocations of the same server. Without it they send to the peer of `-e`, an echo.
- `-c`: no RTCP. Without it each client is a pair, and the first of a pair asks for EVEN-PORT with the next
  port reserved, the second for that port by RESERVATION-TOKEN. With it, EVEN-PORT without a reservation is
  asked for at random. Towards a peer, RTCP goes to the port after the given one, and `turnutils_peer` does
  listen on both.
- Without `-y`, a channel is bound to the peer's next port first and then another to the peer itself, each
  twice: so a run also sees to two channels of one allocation, and to a ChannelBind that is repeated.
- `-s`: Send indications. The answers come as Data indications: no channel is bound.
- `-S` without `-t` would be DTLS. With `-t` it is TLS, each connection with a protocol version drawn by lot
  from any, 1.0 only, 1.1 only and 1.2 only, and up to 32 new attempts when it fails: against a server that
  wants 1.2, about half of all handshakes fail, and that is the tool being itself.
- Over TLS it takes one record for one message. A server that puts two messages in one record is right, yet
  the tool fails on both ("Wrong integrity", or silence) and counts them as lost. And it provokes that: it
  leaves Nagle's algorithm on, so messages that it sends within the 40 ms of a delayed ACK reach the server
  together, leave it together, and coturn puts them in one record. So over TLS messages are sent further
  apart than that.
- `-X` asks for an IPv4 relay by REQUESTED-ADDRESS-FAMILY. With `-e` the peer's family is asked for anyway.
- `-W` makes its own user name `<now + 1 day>:<name of -u>` and password from the shared secret.
- Sending starts 1 to 6 s after the allocations, drawn by lot for each client: most of a short run is
  waiting.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from support.netns import Namespace
from support.processes import Process
from support.relay import Relay, Transport, port_of
from support.requirements import require_program

_COUNTS = re.compile(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)$", re.MULTILINE)
_LOSS = re.compile(r"Total lost packets (\d+) .*, total send dropped (\d+) ")
# Time between two messages of a client.
INTERVAL_MS: dict[Transport, int] = {"udp": 20, "tcp": 20, "tls": 80}
_FLAGS: dict[Transport, tuple[str, ...]] = {"udp": (), "tcp": ("-t",), "tls": ("-t", "-S")}


@dataclass(frozen=True)
class Report:
    """The closing lines of a run, in messages."""

    sent: int
    received: int
    lost: int
    dropped: int

    @classmethod
    def parse(cls, output: str) -> Self:
        counts, loss = _COUNTS.findall(output), _LOSS.findall(output)
        assert counts, f"no closing count in the output of turnutils_uclient:\n{output}"
        assert loss, f"no closing loss in the output of turnutils_uclient:\n{output}"
        return cls(*map(int, counts[-1]), *map(int, loss[-1]))


class UClient:
    """One run of the tool against a relay, from its start to its report.

    `address` is that of the relay to use, if not its first; `namespace` the host that the tool runs on.
    """

    def __init__(
        self,
        relay: Relay,
        transport: Transport,
        flags: Sequence[str],
        *,
        messages: int,
        length: int,
        address: str | None = None,
        namespace: Namespace | None = None,
    ) -> None:
        access = relay.access
        argv = [require_program("turnutils_uclient"), *_FLAGS[transport], *flags]
        argv += ["-z", str(INTERVAL_MS[transport]), "-n", str(messages), "-l", str(length)]
        argv += ["-p", str(port_of(relay, transport)), "-u", access.username]
        if access.shared_secret is None:
            argv += ["-w", access.password]
        else:
            argv += ["-W", access.shared_secret]
        self.process = Process([*argv, address or relay.site.address], namespace=namespace)

    def report(self, timeout: float = 40.0) -> Report:
        """Wait for the end of the run. Raises, with the tool's output, unless it exits with 0."""
        return Report.parse(self.process.wait(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
