"""Networks in memory: a virtual clock, NATs by RFC 4787, and both real cores on it. Nothing here opens a socket."""
