"""`/v1/test`: what the page /test needs, a credential of a few minutes and facts to give advice from."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from aiohttp import web

from turnrelay.policy.rate_limits import PrefixRateLimit
from turnrelay.web.answers import refused
from turnrelay.web.client_addresses import ClientAddresses
from turnrelay.web.credentials import CredentialMint
from turnrelay.web.operator import OperatorGate

_TTL_SECONDS = 180
_TESTS_PER_SECOND = 0.1
_TEST_BURST = 10
_TEST_SLOTS = 4096


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The certificate of the TLS listener, as far as a browser will judge it."""

    names: tuple[str, ...]
    expires_at: float
    """Unix time."""


class ConnectionTest:
    """The route: for the operator, or for everybody at a low rate where it is open."""

    def __init__(
        self,
        *,
        is_open: bool,
        mint: CredentialMint,
        gate: OperatorGate,
        clients: ClientAddresses,
        clock: Callable[[], float],
        certificate: Callable[[], CertificateFacts | None],
        relay_hosts: Iterable[str],
    ) -> None:
        """`certificate` is of the TLS listener, None without one; `relay_hosts` are what peers see."""
        self._is_open = is_open
        self._mint = mint
        self._gate = gate
        self._clients = clients
        self._clock = clock
        self._certificate = certificate
        self._relay_hosts = list(relay_hosts)
        self._rate_limit = PrefixRateLimit(_TESTS_PER_SECOND, _TEST_BURST, slots=_TEST_SLOTS)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.get("/v1/test", self._get), web.post("/v1/test", self._post))

    async def close(self) -> None:
        """Nothing stays open."""

    async def _get(self, request: web.Request) -> web.Response:
        allowed = self._is_open or self._gate.refusal(request) is None
        return web.json_response({"allowed": allowed})

    async def _post(self, request: web.Request) -> web.Response:
        refusal = None if self._is_open else self._gate.refusal(request)
        if refusal is not None:
            return refusal
        if self._is_open and not self._rate_limit.allow(self._clients.of(request), self._clock()):
            message = "Too many tests from here; try again in a minute."
            return refused(429, "too_many_tests", message, {"Retry-After": "60"})
        # A name of its own for each test: no quota is shared, and the log tells tests apart.
        minted = self._mint.mint(
            f"test-{secrets.token_hex(4)}", min(_TTL_SECONDS, self._mint.max_ttl_seconds)
        )
        if isinstance(minted, web.Response):
            return minted
        return web.json_response(
            {
                "username": minted.username,
                "credential": minted.password,
                "ttl": minted.ttl_seconds,
                "uris": list(minted.uris),
                "server_time": minted.minted_at,
                "certificate": self._certificate_facts(),
                "relay_addresses_private": all(ip_address(host).is_private for host in self._relay_hosts),
            },
            status=201,
            headers={"Cache-Control": "no-store"},
        )

    def _certificate_facts(self) -> dict[str, Any] | None:
        certificate = self._certificate()
        if certificate is None:
            return None
        return {"names": list(certificate.names), "expires_at": certificate.expires_at}
