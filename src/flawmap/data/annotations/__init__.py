"""Annotation files of other tools: what a file is, and how it becomes a manifest."""
