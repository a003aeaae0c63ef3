"""Other methods, written from their publications."""
