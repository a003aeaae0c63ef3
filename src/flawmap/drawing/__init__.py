"""A verdict as a picture or a plot: the colour scale of maps, overlays, outlines and captions, without torch."""
