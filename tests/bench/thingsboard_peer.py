"""Runs the ThingsBoard gateway's own SQLite storage, told by lines of JSON what to do.

Runs in the peer's virtual environment: python thingsboard_peer.py FOLDER. Every put waits until the
storage's thread has committed, as it would in the ten real seconds between two rounds of readings.
"""

import json
import logging
import sqlite3
import sys
import time
from threading import Event

from thingsboard_gateway.storage.sqlite.sqlite_event_storage import SQLiteEventStorage


def main(folder: str) -> None:
    logging.addLevelName(5, "TRACE")
    logger = logging.getLogger("storage")
    logger.trace = lambda *_args, **_more: None  # the gateway adds this level to its loggers
    storage = SQLiteEventStorage({"data_file_path": f"{folder}/"}, logger, Event())
    look = sqlite3.connect(f"{folder}/data.db")
    put = 0
    for line in sys.stdin:
        request = json.loads(line)
        for message in request.get("put", []):
            storage.put(message)
            put += 1
        while request.get("put") and _highest(look) < put:
            time.sleep(0.005)
        if request.get("drain"):
            while storage.get_event_pack():
                storage.event_pack_processing_done()
        print("ok", flush=True)
    look.execute("PRAGMA wal_checkpoint(truncate)")  # so that its log does not count as data
    look.close()
    storage.stop()


def _highest(look: sqlite3.Connection) -> int:
    row = look.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return row[0] if row else 0


main(sys.argv[1])
