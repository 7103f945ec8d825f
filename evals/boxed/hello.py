"""The least that runs in a sandbox: says that it came up with all its limits."""

import json
import sys

from evals.boxed.limits import limit_self

GREETING = "all limits are set"


def main(limits: str) -> None:
    """Put the limits on this process and greet on standard output."""
    limit_self(**json.loads(limits))
    sys.stdout.write(GREETING)
