"""The method of the paper, in the order of the paper."""
