"""LibraryLines: what libraries and Python itself complain of, as lines of our log."""

import logging
import time
import traceback
from collections.abc import Callable
from typing import Final

import structlog

_PAUSE_SECONDS: Final = 60.0


class LibraryLines(logging.Handler):
    """One line a minute at most for each place of the code that complains.

    What is filled into a message and the words of an exception may hold addresses and names: they are left
    out unless the operator asked for them.
    """

    def __init__(self, with_identities: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._with_identities = with_identities
        self._clock = clock
        self._next_at: dict[tuple[object, ...], float] = {}
        """By the complaint's place in the code, of which there are few."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes it down, if it is not too soon."""
        error = record.exc_info[1] if record.exc_info else None
        place = (record.pathname, record.lineno, type(error), _innermost(error))
        now = self._clock()
        if now < self._next_at.get(place, now):
            return
        self._next_at[place] = now + _PAUSE_SECONDS
        level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING
        more = {} if error is None else {"exception": self._told(error)}
        structlog.get_logger().log(level, self._message(record), source=record.name, **more)

    def _message(self, record: logging.LogRecord) -> str:
        if self._with_identities:
            return record.getMessage()
        # asyncio fills its messages in by itself, what is particular in lines of their own.
        return str(record.msg).partition("\n")[0]

    def _told(self, error: BaseException) -> str:
        if self._with_identities:
            return "".join(traceback.format_exception(error))
        return "".join([*traceback.format_tb(error.__traceback__), type(error).__name__])


def listen_to_libraries(with_identities: bool) -> None:
    """For the whole process, in the place of what listened before."""
    logging.basicConfig(handlers=[LibraryLines(with_identities)], level=logging.WARNING, force=True)
    logging.captureWarnings(True)


def _innermost(error: BaseException | None) -> tuple[str, int] | None:
    """File and line where it was raised."""
    step = None if error is None else error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return None if step is None else (step.tb_frame.f_code.co_filename, step.tb_lineno)
