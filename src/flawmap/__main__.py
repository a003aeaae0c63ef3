"""``python -m flawmap`` is the command ``flawmap``."""

import sys

from flawmap.cli import main

if __name__ == "__main__":
    sys.exit(main())
