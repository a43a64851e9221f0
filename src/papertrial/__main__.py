"""`python -m papertrial`."""

import sys

from papertrial.cli import main

if __name__ == "__main__":
    sys.exit(main())
