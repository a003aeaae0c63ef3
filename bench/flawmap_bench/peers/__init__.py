"""Other methods, as other packages provide them."""
