"""Boards: methods or variants measured on the same images, beside published numbers."""
