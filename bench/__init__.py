"""The benchmark: turnrelay beside coturn on one machine. Run by `make bench` and `make bench-quick`."""
