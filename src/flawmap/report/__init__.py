"""Results as images and as one HTML file, without torch or OpenCV."""
