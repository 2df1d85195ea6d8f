"""`python -m tests.storage KIND SEED`: one failing life again, in this process."""

import sys
import tempfile
from pathlib import Path

from tests.storage.cases import KINDS

if __name__ == "__main__":
    kind, seed = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        print(dict(KINDS[kind](seed, Path(folder))))
