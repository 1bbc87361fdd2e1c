"""`python -m turnrelay`, and what the command `turnrelay` starts."""

import os
import sys


def main() -> None:
    """Runs the command line. Ctrl-C while it is still being loaded ends it without a traceback, too."""
    try:
        from turnrelay.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        let_go_of_what_cannot_be_written()


def let_go_of_what_cannot_be_written() -> None:
    """On a full disk, or for a reader who is gone: Python would try again at its end, and end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


if __name__ == "__main__":
    main()
