"""The two stages as Lightning modules, and what keeps them reproducible and resumable."""
