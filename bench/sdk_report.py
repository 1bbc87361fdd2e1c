"""From the samples of the client's side to a table, and its section of docs/performance.md."""

import time
from typing import Any

from bench import figures
from bench.figures import Figure, Row

_US = Figure("cpu_us_per_message", "CPU us/message", "{:.1f}")
_ENDS = (
    Figure("sender_cpu_us_per_message", "CPU us/message, sender", "{:.1f}"),
    Figure("receiver_cpu_us_per_message", "CPU us/message, receiver", "{:.1f}"),
)
_OF_SCENARIO = {
    "codec": (_US, Figure("messages_per_second_of_cpu", "per s of one core", "{:,.0f}")),
    "path in the simulator": (
        Figure("median_ms", "median of all pairs, ms", "{:.0f}"),
        Figure("p95_ms", "95% of all pairs within, ms", "{:.0f}"),
    ),
    "first message in the lab": (Figure("ms", "ms", "{:.0f}"),),
    "messages": (
        Figure("messages_per_second", "messages/s", "{:,.0f}"),
        Figure("cpu_us_per_message", "CPU us/message, both ends", "{:.1f}"),
        *_ENDS,
    ),
    "where the time": _ENDS,
}
_HEADS = ["scenario", "figure", "of", "median", "least - most", "to the other"]
_OTHERS = ("aioice", "aiortc")
_CALLS, _CODECS = ("peerpath", "aiortc"), ("stunwire", "aioice")
_MESSAGES = "messages of {} B, 64 at a time"
_COST = "cpu_us_per_message"
_BRIEFLY = (
    (
        "call to first message, 80 ms from the peer, NATs that can be punched: ms",
        ("first message in the lab, NATs that can be punched", "ms"),
        _CALLS,
    ),
    (
        "the same, where a relay is needed: ms",
        ("first message in the lab, symmetric NATs, relayed", "ms"),
        _CALLS,
    ),
    ("messages of 100 B a second, 64 at a time", (_MESSAGES.format(100), "messages_per_second"), _CALLS),
    ("CPU of both ends for each of them: us", (_MESSAGES.format(100), _COST), _CALLS),
    ("messages of 1000 B a second, 64 at a time", (_MESSAGES.format(1000), "messages_per_second"), _CALLS),
    ("CPU of both ends for each of them: us", (_MESSAGES.format(1000), _COST), _CALLS),
    ("decode an authenticated Allocate: us", ("codec: decode Allocate, authenticated", _COST), _CODECS),
    ("encode it: us", ("codec: encode Allocate, authenticated", _COST), _CODECS),
    ("decode a Binding response: us", ("codec: decode Binding response", _COST), _CODECS),
    ("encode it: us", ("codec: encode Binding response", _COST), _CODECS),
)
"""Words, scenario and key of the figure, whose."""
_METHOD = """\
### Method

`make bench-sdk` measures this part alone, as root, in about four minutes, and leaves the relay's figures as
they are.

- Codec: the same bytes, from values and back to values, integrity and fingerprint made and verified; CPU time
  of one thread. The Allocate has REQUESTED-TRANSPORT, LIFETIME, USERNAME, REALM, NONCE, MESSAGE-INTEGRITY and
  FINGERPRINT, the Binding response XOR-MAPPED-ADDRESS and FINGERPRINT.
- Path in the simulator: both real ICE agents and the relay's core on a virtual clock, every pair of 15 kinds
  of access, 40 ms from a host to the servers and back, 40 ms for signaling; the time until both sides have a
  path, whichever comes first, often a relayed one. "a tenth lost" has jitter of 30 ms and a twentieth
  of the packets doubled as well. Other ICEs have no clock to exchange, so nothing stands beside it.
- First message in the lab: namespaces with NATs of the kernel, from the call to the arrival of the first
  message: gathering, signaling, checks, handshake, message. Beside it aioice with aiortc's DTLS on the same
  two hosts, with the same servers and signaling that takes as long. 40 ms to the servers and back, 80 ms to
  each other.
- Messages: reliable and in order, from one process to another, each pinned to a core of its own, over a veth
  pair between two namespaces; the whole of each library lies between, a `Connection` of a `Traversal` on the
  one side (ICE, QUIC) and a data channel of an RTCPeerConnection on the other (ICE, DTLS, SCTP). "as many as
  go": the sender waits only for room, in the window of a `Connection` (1 MiB) or behind 256 KiB of a
  channel's bufferedAmount; "64 at a time": after so many for a message back. A data channel puts each small
  message in a packet of its own and counts what is under way in bytes: as many as go overflow the receiver's
  socket, and what that costs is in its figures. Messages are numbered and none may be missing. CPU is that of
  the processes, kernel time included (`/proc/PID/task/*/schedstat`).
- Where the time goes: the same, while a timer of CPU time looks what the process is running; its CPU is
  divided as the samples are. What Python's library does counts as its caller's.
- Rounds of the two are interleaved. Figures are medians over the rounds, with the least and the most; "to the
  other" is the median of the ratios within the rounds.
"""


def rows(document: dict[str, Any]) -> list[Row]:
    """Each scenario has one other library to stand beside, or none."""
    found = []
    for scenario in dict.fromkeys(sample["scenario"] for sample in document["samples"]):
        samples = [sample for sample in document["samples"] if sample["scenario"] == scenario]
        of = list(dict.fromkeys(sample["of"] for sample in samples))
        other = next((name for name in of if name in _OTHERS), "")
        ours_first = sorted(of, key=lambda name: name == other)
        found += figures.rows(samples, _OF_SCENARIO, ours_first, other, "of")
    return found


def terminal_table(document: dict[str, Any]) -> str:
    return f"{figures.terminal_table(_HEADS, rows(document))}\n\n{_conditions(document)}"


def brief_table(document: dict[str, Any]) -> list[str]:
    """The lines of the table in README.md."""
    found = {(row.scenario, row.figure.key, row.who): row for row in rows(document)}
    lines = ["| | peerpath | aiortc, aioice |", "|---|--:|--:|"]
    for words, figure, whose in _BRIEFLY:
        medians = [found[*figure, who] for who in whose]
        cells = [words, *(row.figure.form.format(row.median) for row in medians)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _conditions(document: dict[str, Any]) -> str:
    samples = document["samples"]
    text = figures.load_of_machine(samples)
    messages = [sample["machine_load"] for sample in samples if sample["scenario"].startswith("messages")]
    if messages:
        # Their processes want both cores themselves: what is more than two is somebody else.
        text += f" While messages went it was {min(messages):.1f} to {max(messages):.1f}."
    return text


def section(document: dict[str, Any]) -> list[str]:
    """The lines of docs/performance.md."""
    machine, versions = document["machine"], document["versions"]
    when = time.strftime("%Y-%m-%d", time.gmtime(document["started"]))
    return [
        "## The client's side",
        "",
        f"Measured on {when}: {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {document['rounds']} rounds. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f". {_conditions(document)} All samples are in [sdk.json](performance/sdk.json).",
        "",
        *figures.markdown_table(_HEADS, rows(document)),
        "",
        _METHOD,
    ]
