"""Desk: what one process of a relay tells its operator of its own sessions, traffic and failures.

Questions and answers are JSON, since they may come from another process: see whole_relay.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

from stunwire import TransportAddress

from turnrelay.core.addresses import Transport
from turnrelay.core.allocation import Allocation
from turnrelay.core.state import State
from turnrelay.relay.plane import RelayPlane, Traffic
from turnrelay.web.failures import RecentFailures


class Desk:
    """Answers for this process. Addresses and user names appear only where `with_identities` is set."""

    def __init__(
        self,
        state: State,
        plane: RelayPlane,
        failures: RecentFailures,
        end: Callable[[str], bool],
        clock: Callable[[], float],
        with_identities: bool,
    ) -> None:
        """`end` ends the allocation of an id, and tells whether there was one."""
        self._state = state
        self._plane = plane
        self._failures = failures
        self._end = end
        self._clock = clock
        self._with_identities = with_identities
        self._questions: dict[str, Callable[[Any], Any]] = {
            "sessions": self._sessions,
            "session": self._session,
            "end": self._end,
            "figures": self._figures,
        }

    def answer(self, question: str, argument: Any) -> Any:
        """To one of the questions below."""
        return self._questions[question](argument)

    def _sessions(self, argument: dict[str, Any]) -> dict[str, Any]:
        """At most `limit` sessions created later than `after` (None: all), each with its time of creation."""
        page = []
        # The table keeps the order of creation, so a place in it holds while sessions come and go.
        for allocation in self._later_than(argument["after"]):
            page.append([allocation.created_at, self._facts(allocation)])
            if len(page) == argument["limit"]:
                break
        return {"page": page, "total": len(self._state.allocations)}

    def _session(self, allocation_id: str) -> dict[str, Any] | None:
        """One session, None if it is none of this process."""
        for allocation in self._state.allocations.values():
            if allocation.allocation_id == allocation_id:
                return self._facts(allocation)
        return None

    def _figures(self, _: None) -> dict[str, Any]:
        """Live sessions by transport, what was relayed so far, ports in use and recent failures."""
        sessions = dict.fromkeys((transport.value for transport in Transport), 0)
        for path in self._state.allocations:
            sessions[path.transport.value] += 1
        traffic = Traffic()
        for part in self._plane.traffic().values():
            traffic.add(part)
        return {
            "sessions": sessions,
            "traffic": _counts(traffic),
            "ports_in_use": sum(in_use for in_use, _ in self._plane.ports()),
            "failures": self._failures.recent(),
        }

    def _later_than(self, created_at: float | None) -> Iterator[Allocation]:
        for allocation in self._state.allocations.values():
            if created_at is None or allocation.created_at > created_at:
                yield allocation

    def _facts(self, allocation: Allocation) -> dict[str, Any]:
        now = self._clock()
        traffic = Traffic()
        for relay in allocation.relays.values():
            traffic.add(self._plane.traffic_of(relay.address))
        expires_at = max(relay.expires_at for relay in allocation.relays.values())
        facts: dict[str, Any] = {
            "id": allocation.allocation_id,
            "transport": allocation.path.transport.value,
            "families": [family.name.lower() for family in allocation.relays],
            "age_seconds": round(now - allocation.created_at, 1),
            "expires_in_seconds": round(expires_at - now, 1),
            "permissions": len(allocation.permissions),
            "channels": allocation.bound_channels(),
            "traffic": _counts(traffic),
        }
        if self._with_identities:
            facts |= {
                "account": allocation.credential.account,
                "client": _text(allocation.path.client),
                "relayed": [_text(relay.address) for relay in allocation.relays.values()],
                "peers": list(allocation.permissions),
            }
        return facts


def _counts(traffic: Traffic) -> dict[str, int]:
    return {
        "packets_to_peer": traffic.packets_to_peer,
        "bytes_to_peer": traffic.bytes_to_peer,
        "packets_from_peer": traffic.packets_from_peer,
        "bytes_from_peer": traffic.bytes_from_peer,
    }


def _text(address: TransportAddress) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
