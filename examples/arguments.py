"""The arguments that the examples share. Nothing of the SDK is in here."""

import argparse


def parse(description: str) -> argparse.Namespace:
    """`server` is a list of URIs; a TURN server also needs `user` and `password`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", action="append", default=[], metavar="URI", help="stun:, turn: or turns:")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--rendezvous", default="", metavar="URL", help="ws://HOST:9641/v1/rendezvous")
    return parser.parse_args()
