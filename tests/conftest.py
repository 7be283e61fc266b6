"""One setting for every test: CI runs the same examples each time, a person finds new ones.

25 of each keep tests/unit quick; EXPLORE=1000 looks harder.
"""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25)
EXAMPLES = int(os.environ.get("EXPLORE", "25"))
settings.register_profile("explore", deadline=None, max_examples=EXAMPLES)
settings.load_profile("ci" if os.environ.get("CI") else "explore")
