"""STUNClient and STUNResponse: the public address in one call, and its messages for do-it-yourself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stunwire import ERROR_CODE, DecodeError, Message, MessageClass, Method

from peerpath.errors import TraversalError
from peerpath.settings import Settings
from peerpath.stun.binding import BindingOptions, binding_request, mapped_address
from peerpath.stun.client import ServerLike, StunClient


@dataclass(frozen=True)
class STUNResponse:
    """What a STUN server said. Without `success` the public address is empty and `error_message` says why."""

    public_ip: str
    public_port: int
    server_ip: str
    server_port: int
    success: bool = True
    error_message: str = ""


class STUNClient:
    """Asks STUN servers for the public address.

    Servers come from the settings unless a call names its own, as (host, port) or in any form that the
    settings take. All are asked at once and the fastest good answer counts. After a call that returned None
    `failure` tells why, server by server.
    """

    def __init__(self, timeout: float | None = None, settings: Settings | None = None) -> None:
        """`timeout` in seconds for a whole call; None takes `candidate_timeout` of the settings."""
        self.settings = settings or Settings.load()
        self.timeout = self.settings.candidate_timeout if timeout is None else timeout
        self.failure: TraversalError | None = None
        self._of_settings: StunClient | None = None

    async def get_public_address(
        self, local_port: int = 0, stun_servers: Sequence[ServerLike] | None = None
    ) -> STUNResponse | None:
        """The public address of UDP port `local_port` (0: any), or None when no server tells it.

        What the servers of the settings told of a port within the last `binding_refresh` seconds is told
        again. ValueError for a server that cannot be parsed, OSError for a port that is taken.
        """
        settings = self.settings
        if stun_servers is not None:
            client = self._client(stun_servers, ())
        else:
            if self._of_settings is None:
                self._of_settings = self._client(settings.primary_servers, settings.backup_stun_servers)
            client = self._of_settings
        self.failure = None
        try:
            found = await client.public_address(local_port, max_age=settings.binding_refresh)
        except TraversalError as failure:
            self.failure = failure
            return None
        return STUNResponse(*found.mapped, *found.server_address)

    def _client(self, servers: Sequence[ServerLike], backup: Sequence[ServerLike]) -> StunClient:
        selection = self.settings.server_selection
        return StunClient(servers, backup, selection=selection, timeout=self.timeout)

    def _create_binding_request(self, transaction_id: bytes) -> bytes:
        """A Binding request without attributes; ValueError unless the ID has 12 bytes."""
        return binding_request(BindingOptions(), transaction_id).encode()

    def _parse_stun_response(
        self, data: bytes, expected_transaction_id: bytes, server_ip: str, server_port: int
    ) -> STUNResponse | None:
        """The response in `data`, an error response included; None when it is no response to that request.

        What answers another request, or no request at all, is nobody's answer: wait on.
        """
        try:
            message = Message.decode(data)
        except DecodeError:
            return None
        if message.transaction_id != expected_transaction_id or message.method != Method.BINDING:
            return None
        if message.message_class is MessageClass.ERROR_RESPONSE:
            error = message.get(ERROR_CODE)
            words = f"{error.code} {error.reason}".strip() if error is not None else "error without a code"
            return STUNResponse("", 0, server_ip, server_port, False, words)
        if message.message_class is not MessageClass.SUCCESS_RESPONSE:
            return None
        mapped = mapped_address(message)
        if mapped is None:
            return STUNResponse("", 0, server_ip, server_port, False, "the response holds no address")
        return STUNResponse(mapped.host, mapped.port, server_ip, server_port)
