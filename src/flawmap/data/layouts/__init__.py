"""Layouts of data, one class each; ``flawmap.data.open_data.LAYOUTS`` lists them."""
