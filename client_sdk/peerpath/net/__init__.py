"""Sockets, names and interfaces of this machine, for every operating system. No protocol lives here."""
