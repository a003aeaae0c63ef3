"""Methods that other packages implement."""
