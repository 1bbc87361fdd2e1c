"""The kernel plane: UDP channels relayed by eBPF programs; only what it takes to load, feed and read them."""
