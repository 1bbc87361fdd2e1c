"""`python -m turnrelay`."""

from turnrelay.cli import main

main()
