"""Networks in memory: a virtual clock, NATs by RFC 4787, and both real cores. No sockets."""
