"""How a file becomes pixels, and how a file becomes a mask."""
