"""The old place of `sdk.commands.distributed`, so that `torchrun -m sdk.training.distributed` still trains."""

import sys

from sdk.commands.distributed import main

if __name__ == "__main__":
    sys.exit(main())
