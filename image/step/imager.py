"""imager.py IMAGE COMPRESSED URL: Raspberry Pi Imager's manifest: lets it offer Wi-Fi settings.

Imager writes them as firstrun.sh onto the first partition ("systemd" format, which Imager 1 and 2
both know). The box reads that file and never runs it (edge/appliance/preseed.py).
"""

import hashlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

DEVICES = ["pi5-64bit", "pi4-64bit", "pi3-64bit"]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(image: Path, compressed: Path, url: str) -> None:
    made = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    entry = {
        "name": "The box",
        "description": "Connects a home to FlexMeasures",
        "url": url or compressed.resolve().as_uri(),
        "extract_size": image.stat().st_size,
        "extract_sha256": sha256(image),
        "image_download_size": compressed.stat().st_size,
        "image_download_sha256": sha256(compressed),
        "release_date": made.date().isoformat(),
        "init_format": "systemd",
        "devices": DEVICES,
    }
    print(json.dumps({"os_list": [entry]}, indent=1))


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
