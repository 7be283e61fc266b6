"""What became of the last update: written by root, kept over restarts, read by the agent.

{"release", "outcome": "trying" | "installed" | "gone back" | "refused", "text"}. It lies in root's
own folder: in the agent's, a link could lead root anywhere.
"""

import json
from pathlib import Path

from edge.files import write_atomically

RESULT = Path("/data/update/result.json")


def note(result: dict[str, str], path: Path = RESULT) -> None:
    """Everybody may read it, whatever the unit's umask."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    # Only while it is there does a start look what became of it (edge-identity.service): so it
    # comes before the word and goes after it, whenever power is lost.
    trying = path.with_name("trying")
    if result["outcome"] == "trying":
        trying.touch()
    write_atomically(path, json.dumps(result).encode())
    path.chmod(0o644)
    if result["outcome"] != "trying":
        trying.unlink(missing_ok=True)


def note_return(*, on_trial: bool, path: Path = RESULT) -> None:
    """At a start: a system that was tried and does not run now died without a word."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["outcome"] == "trying" and not on_trial:
            text = (
                "the new system did not start, or lost its power on trial; "
                "the one before runs again"
            )
            note({**said, "outcome": "gone back", "text": text}, path)
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing was tried
