"""Trials of ``flawmap studio`` in a real browser."""
