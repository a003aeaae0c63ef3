"""Objectives of stage 1 that the paper compares itself with."""
