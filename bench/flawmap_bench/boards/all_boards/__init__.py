"""One table over all boards below a folder: found, run, and put together."""
