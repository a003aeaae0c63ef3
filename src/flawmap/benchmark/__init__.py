"""Measurements: speed and memory of the method's parts, later ablations, baselines and peers."""
