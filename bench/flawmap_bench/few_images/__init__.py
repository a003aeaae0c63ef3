"""How well methods do with few good images: curves over their number."""
