"""`/v1/sessions`: the live allocations, listed, inspected and ended."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from stunwire import TransportAddress

from turnrelay.core.allocation import Allocation
from turnrelay.core.state import State
from turnrelay.relay.plane import RelayPlane, Traffic
from turnrelay.web.answers import BadRequest, refused
from turnrelay.web.operator import OperatorGate

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 500


class Sessions:
    """The routes, for the operator. Addresses and user names appear only where `with_identities` is set."""

    def __init__(
        self,
        state: State,
        plane: RelayPlane,
        end: Callable[[str], bool],
        clock: Callable[[], float],
        gate: OperatorGate,
        with_identities: bool,
    ) -> None:
        """`end` ends the allocation of an id, and tells whether there was one."""
        self._state = state
        self._plane = plane
        self._end = end
        self._clock = clock
        self._gate = gate
        self._with_identities = with_identities

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        guarded = self._gate.guarded
        return (
            web.get("/v1/sessions", guarded(self._list)),
            web.get("/v1/sessions/{id}", guarded(self._inspect)),
            web.delete("/v1/sessions/{id}", guarded(self._delete)),
        )

    async def close(self) -> None:
        """Nothing stays open."""

    async def _list(self, request: web.Request) -> web.Response:
        limit = _limit(request.query.get("limit"))
        after = _cursor(request.query.get("after"))
        # The table keeps the order of creation, so a cursor holds while sessions come and go.
        page: list[Allocation] = []
        more = False
        for allocation in self._state.allocations.values():
            if allocation.created_at <= after:
                continue
            if len(page) == limit:
                more = True
                break
            page.append(allocation)
        return web.json_response(
            {
                "sessions": [self._facts(allocation) for allocation in page],
                "total": len(self._state.allocations),
                "next": repr(page[-1].created_at) if more else None,
            }
        )

    async def _inspect(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        for allocation in self._state.allocations.values():
            if allocation.allocation_id == wanted:
                return web.json_response(self._facts(allocation))
        return _not_found()

    async def _delete(self, request: web.Request) -> web.Response:
        return web.Response(status=204) if self._end(request.match_info["id"]) else _not_found()

    def _facts(self, allocation: Allocation) -> dict[str, Any]:
        now = self._clock()
        traffic = Traffic()
        for relay in allocation.relays.values():
            traffic.add(self._plane.traffic_of(relay.address))
        facts: dict[str, Any] = {
            "id": allocation.allocation_id,
            "transport": allocation.path.transport.value,
            "families": [family.name.lower() for family in allocation.relays],
            "age_seconds": round(now - allocation.created_at, 1),
            "expires_in_seconds": round(
                max(relay.expires_at for relay in allocation.relays.values()) - now, 1
            ),
            "permissions": len(allocation.permissions),
            "channels": allocation.bound_channels(),
            "traffic": {
                "packets_to_peer": traffic.packets_to_peer,
                "bytes_to_peer": traffic.bytes_to_peer,
                "packets_from_peer": traffic.packets_from_peer,
                "bytes_from_peer": traffic.bytes_from_peer,
            },
        }
        if self._with_identities:
            facts |= {
                "account": allocation.credential.account,
                "client": _text(allocation.path.client),
                "relayed": [_text(relay.address) for relay in allocation.relays.values()],
                "peers": list(allocation.permissions),
            }
        return facts


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_LIMIT):
        raise BadRequest(f"limit: expected 1 to {_MAX_LIMIT}")
    return int(text)


def _cursor(text: str | None) -> float:
    try:
        return -math.inf if text is None else float(text)
    except ValueError:
        raise BadRequest("after: expected the value of next in the page before") from None


def _text(address: TransportAddress) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _not_found() -> web.Response:
    return refused(404, "no_such_session", "There is no such session; it may have ended by itself.")
