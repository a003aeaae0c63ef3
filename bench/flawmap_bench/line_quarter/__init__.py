"""A quarter on a line: real images in an order with a change of camera and of product, and ways to deal with it."""
