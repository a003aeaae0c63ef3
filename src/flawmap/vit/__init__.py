"""The vision transformer: the encoder, its weights, and how images enter it."""
