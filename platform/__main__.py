"""`python -m platform COMMAND` (see mae_ablation/cli.py)."""

import sys

from mae_ablation.cli import main

if __name__ == "__main__":
    sys.exit(main(program="python -m platform"))
