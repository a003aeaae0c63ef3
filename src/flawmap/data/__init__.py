"""Images and their labels: layouts of data sets, image files, checks, splits."""
