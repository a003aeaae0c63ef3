"""What things cost: time, memory, and what exporting changes."""
