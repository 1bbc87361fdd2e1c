"""TURN as the RFCs tell it: values in, values out. No sockets, clock, logging or metrics live here."""
