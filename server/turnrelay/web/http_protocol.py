"""HttpProtocol: one HTTP connection. What goes wrong on it is answered and logged in our own form."""

from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from turnrelay.web.answers import add_headers, refused

_OF_THE_CLIENT = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class HttpProtocol(web.RequestHandler):
    """aiohttp would log the client's address and a traceback for each request that is none, and its answer
    would tell the versions of itself and of Python."""

    __slots__ = ()

    async def start(self) -> None:
        """Serves, unless the client was gone before this began."""
        if self.transport is not None:
            await super().start()

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
