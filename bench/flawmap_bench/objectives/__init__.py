"""Objectives of stage 1 that are compared with the paper's; pyproject.toml registers them by name."""
