"""Measures of how well scores separate good images from defective ones, in numpy and Pillow alone."""
