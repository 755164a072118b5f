"""How long the fuzz tests are: short among all tests, 10,000 bodies per interface in `make fuzz`.

Both are repeatable. The short form has its seed in each test's name; the long one has the seed that
`make fuzz SEED=…` gives, and says how to repeat what failed.
"""

import os

from hypothesis import HealthCheck, settings

BODIES = int(os.environ.get("FUZZ_BODIES", "0"))
"""For each interface; 0 is the short form."""
SHORT = 300


def bounded(share: int) -> settings:
    """Of a test that is one of so many that an interface has."""
    return settings(
        max_examples=-(-BODIES // share) if BODIES else SHORT,
        derandomize=not BODIES,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
