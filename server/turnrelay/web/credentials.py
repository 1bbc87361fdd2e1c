"""`/v1/credentials`: time-limited credentials for a chat server to hand out."""

from collections.abc import Callable, Iterable, Sequence

from aiohttp import web

from turnrelay.policy.credentials import SharedSecrets
from turnrelay.policy.outcome_tokens import OutcomeTokens
from turnrelay.web.answers import BadRequest, read_object, refused
from turnrelay.web.dialects import DIALECTS, MintedCredential
from turnrelay.web.operator import OperatorGate

_DEFAULT_TTL_SECONDS = 3600
_NAME_CHARACTERS = 128


class CredentialMint:
    """Mints credentials of this relay under its first shared secret."""

    def __init__(
        self,
        secrets: SharedSecrets,
        realm: str,
        uris: Callable[[], Sequence[str]],
        max_ttl_seconds: int,
        unix_time: Callable[[], float],
    ) -> None:
        """`uris` tells where clients reach the relay now."""
        self._secrets = secrets
        self._realm = realm
        self._uris = uris
        self._unix_time = unix_time
        self.max_ttl_seconds = max_ttl_seconds

    def mint(self, name: str, ttl_seconds: int) -> MintedCredential | web.Response:
        """The credential, or why there is none. BadRequest for a name or a time that cannot be."""
        if not 1 <= ttl_seconds <= self.max_ttl_seconds:
            raise BadRequest(f"ttl: expected 1 to {self.max_ttl_seconds} seconds")
        if len(name) > _NAME_CHARACTERS:
            raise BadRequest(f"name: expected up to {_NAME_CHARACTERS} characters")
        if not self._secrets:
            return refused(
                409,
                "no_shared_secret",
                "The relay has users with passwords and no shared secret to mint with; add shared_secrets.",
            )
        now = self._unix_time()
        try:
            username, password = self._secrets.mint(name, ttl_seconds, now)
        except ValueError as error:
            raise BadRequest(f"name: {error}") from None
        return MintedCredential(username, password, ttl_seconds, self._uris(), self._realm, now)


class Credentials:
    """The route, for the operator. Each credential comes with a token to report one outcome with."""

    def __init__(self, mint: CredentialMint, outcome_tokens: OutcomeTokens, gate: OperatorGate) -> None:
        self._mint = mint
        self._outcome_tokens = outcome_tokens
        self._gate = gate

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.post("/v1/credentials", self._gate.guarded(self._post)),)

    async def close(self) -> None:
        """Nothing stays open."""

    async def _post(self, request: web.Request) -> web.Response:
        asked = await read_object(request, {"name": str, "ttl": int, "format": str})
        dialect = DIALECTS.get(asked.get("format", "rest"))
        if dialect is None:
            raise BadRequest(f"format: expected one of {', '.join(DIALECTS)}")
        ttl = asked.get("ttl", min(_DEFAULT_TTL_SECONDS, self._mint.max_ttl_seconds))
        minted = self._mint.mint(asked.get("name", ""), ttl)
        if isinstance(minted, web.Response):
            return minted
        token = self._outcome_tokens.mint(minted.minted_at)
        return web.json_response(
            {**dialect(minted), "outcome_token": token}, status=201, headers={"Cache-Control": "no-store"}
        )
