"""`python -m mae_ablation COMMAND` (see cli.py)."""

import sys

from mae_ablation.cli import main

if __name__ == "__main__":
    sys.exit(main())
