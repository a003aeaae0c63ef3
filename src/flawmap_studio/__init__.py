"""``flawmap studio``: collect images, train, test, review and update in the browser, on this machine.

The studio keeps what people decided and starts flawmap's own commands; it computes nothing of a model itself. What it
did can therefore be done again, or continued, on the command line, with the commands that its pages show.
"""
