"""HttpProtocol: one HTTP connection. What goes wrong on it is answered and logged in our own form."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from turnrelay.web.answers import add_headers, refused

_OF_THE_CLIENT = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


_ANSWER_SECONDS = 30.0
"""That a client may take to read an answer."""


class HttpProtocol(web.RequestHandler):
    """aiohttp would log the client's address and a traceback for each request that is none, and its answer
    would tell the versions of itself and of Python."""

    __slots__ = ()

    async def start(self) -> None:
        """Serves, unless the client was gone before this began, and sees to it that the connection ends."""
        transport = self.transport
        if transport is None:
            return
        try:
            await super().start()
        finally:
            transport.close()  # aiohttp leaves it open where close() ended the wait for a request
            if transport.get_write_buffer_size():  # it closes when all of that has been read, if ever
                asyncio.get_running_loop().call_later(_ANSWER_SECONDS, transport.abort)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Whether the client has gone, too; one who does not read is sent away."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, and to one that the relay failed at. The connection ends."""
        if isinstance(exc, _OF_THE_CLIENT) or not _is_text(request):
            answer = refused(400, "bad_request", "This is no request that can be read.")
        else:
            self.log_exception("HTTP request failed", exc_info=exc or True)
            answer = refused(500, "internal_server_error", "The relay failed at this; its log tells where.")
        if request.writer.output_size:
            raise ConnectionError("a part of another answer has been sent")
        add_headers(answer)
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Of faults of the client's there is nothing to be learned."""
        if not isinstance(kw.get("exc_info"), _OF_THE_CLIENT):
            super().log_exception(*args, **kw)


def _is_text(request: web.BaseRequest) -> bool:
    """Whether the headers are UTF-8. Those that are not come with lone surrogates in the place of bytes."""
    try:
        "".join(request.headers.values()).encode()
    except UnicodeEncodeError:
        return False
    return True
