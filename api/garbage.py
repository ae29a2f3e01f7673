"""Garbage collection, settled: what lives for as long as the program is not looked at again and again.

Our own objects form no circles (structs with `gc=False`), so collecting seldom costs no memory worth speaking of and
saves the pauses that showed as the slowest requests.
"""

import gc

COLLECT_EVERY_OBJECTS = 200_000
"""More than there are of while read models catch up: none of them is garbage, and looking costs a tenth of the time."""


def settle_garbage() -> None:
    """What is alive now stays, and collections are seldom from here on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY_OBJECTS, 20, 50)
