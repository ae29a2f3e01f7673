"""`booking-ledger …` with a schedule in a hurry: intervals in seconds as JSON, then the command's words.

python -m tests.hurried INTERVALS WORD...    without words: as the worker of a server that was started so
"""

import os
import sys

import msgspec

from api import jobs, working, working_aside
from api.cli.main import main

INTERVALS = "HURRIED_INTERVALS"

if __name__ == "__main__":
    words = sys.argv[2:]
    if words:
        os.environ[INTERVALS] = sys.argv[1]
    jobs.INTERVALS = msgspec.json.decode(os.environ[INTERVALS], type=jobs.Intervals)  # type: ignore[misc]  # final for others
    working_aside.MODULE = "tests.hurried"
    sys.argv = ["booking-ledger", *words]
    main() if words else working.main()
