"""The HTTP side: a file or two for each feature. Nothing here knows the settings; http_side.py does."""
