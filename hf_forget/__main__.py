"""`python -m hf_forget`, which is also what `accelerate launch -m hf_forget` starts."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
