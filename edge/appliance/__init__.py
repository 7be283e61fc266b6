"""What the image does as root, for a moment each: its own keys, updates, and the agent's doors.

Runs in processes of its own (systemd/), never in the agent. Standard library first: on a Pi each
start costs a second. Paths are those of the image; tests hand in others.
"""

import re

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # what a box may be called: one DNS label
