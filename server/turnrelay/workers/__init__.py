"""Several processes that are one relay: a supervisor, its workers, and what they share."""
