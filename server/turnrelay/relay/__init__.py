"""The data planes: they look up flows that the core granted and move packets. Nothing here decides."""
