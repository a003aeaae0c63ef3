"""Trials behind decisions: variants of one step of the recommended method, compared on tokens that are kept on disk."""
