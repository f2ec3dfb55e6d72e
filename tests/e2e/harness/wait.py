"""Waiting for a condition, always with a deadline."""

import time

DEADLINE = 10.0


def until(condition, what="the condition", timeout=DEADLINE, interval=0.01):
    """Calls `condition` until it returns something true and returns that."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"{what}: not within {timeout} s (last value {value!r})")
        time.sleep(interval)
