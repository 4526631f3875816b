"""`python -m platform.run STUDY`: run a study (see mae_ablation/cli.py)."""

import sys

from mae_ablation.cli import main_run

if __name__ == "__main__":
    sys.exit(main_run())
