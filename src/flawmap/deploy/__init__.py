"""Taking a trained detector to the line: export, light runtimes, the inspection page."""
