"""What test suites share: networks, processes, relays and their metrics. No test lives here."""
