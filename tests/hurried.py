"""`booking-ledger …` with a schedule in a hurry: intervals in seconds as JSON, then the command's words."""

import sys

import msgspec

from api import jobs
from api.cli.main import main

if __name__ == "__main__":
    jobs.INTERVALS = msgspec.json.decode(sys.argv[1], type=jobs.Intervals)  # type: ignore[misc]  # final for everybody else
    sys.argv = ["booking-ledger", *sys.argv[2:]]
    main()
