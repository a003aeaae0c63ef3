"""From tokens to an anomaly map and an image score."""
