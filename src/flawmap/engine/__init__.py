"""Runs stages of training: checkpoints, schedules, sampling, devices, progress. Knows no method."""
