"""The layouts of data that flawmap reads, one class each."""
