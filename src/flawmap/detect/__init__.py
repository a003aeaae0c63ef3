"""The detector that users hold: fit, predict, calibrate, save, load."""
