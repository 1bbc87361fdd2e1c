"""`python -m turnrelay`, and what the command `turnrelay` starts."""

import sys


def main() -> None:
    """Runs the command line. Ctrl-C while it is still being loaded ends it without a traceback, too."""
    try:
        from turnrelay.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
