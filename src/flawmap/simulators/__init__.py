"""Simulated defects: the interface, every simulator, and what training reads."""
