"""A real FlexMeasures server in one process, for `make run` and the tests.

PostgreSQL is our child (postgres.py), Redis is fakeredis in this process, schedules are computed
inside the request that triggers them, waitress serves. Nothing outside --data is written; runs as
root or not; the first answer comes about three seconds after the start.

With --control this process takes one JSON command per line on its standard input, answers each on
its standard output (control.py), and stops when the input ends: whoever started it owns it.
"""

import argparse
import contextlib
import fcntl
import logging
import os
import secrets
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import control
import shortcuts
from postgres import Postgres

LOCK_WAIT_S = 5  # the last server's PostgreSQL may be closing still

_SETTINGS = """\
SECRET_KEY = {secret!r}
FLEXMEASURES_TIMEZONE = {timezone!r}
SECURITY_TWO_FACTOR = False
SECURITY_PASSWORD_CHECK_BREACHED = None
SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS = {{"argon2__time_cost": 1, "argon2__memory_cost": 1024}}
SECURITY_TWO_FACTOR_LOGIN_VALIDITY = "1 weeks"
RATELIMIT_STORAGE_URI = "memory://"
FLEXMEASURES_CREATE_TEMPLATE_ASSETS_ON_STARTUP = False
TRUSTED_HOSTS = ["localhost", "127.0.0.1", "10.0.2.2"]  # the last: from an emulated board
"""


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    work = options.data.resolve()
    work.mkdir(parents=True, exist_ok=True)
    answers = _keep_stdout_for_answers(work) if options.control else None
    lock = _lock(work)
    os.chdir(work)  # FlexMeasures writes its log to the current directory
    os.environ.update(HOME=str(work), XDG_CACHE_HOME=str(work / "cache"))
    os.environ.update(FLEXMEASURES_ENV="production")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    database = Postgres(work, lock.fileno())
    status = 0
    try:
        database.start()
        app = _build(database, work, options.timezone)
        server = _listen(app, options.port)
        if answers:
            first = {"port": int(server.effective_port), "ready": True}
            control.listen(app, sys.stdin, answers, first, lambda: os.kill(os.getpid(), 15))
        print(f"FlexMeasures on http://127.0.0.1:{server.effective_port}", flush=True)
        server.run()
    except SystemExit as end:
        if end.code:
            status = 1
            print(end.code, file=sys.stderr, flush=True)
    finally:
        database.stop()
    os._exit(status)  # taking the imported modules apart would cost another second


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="everything it keeps")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--timezone", default="Europe/Amsterdam")
    parser.add_argument("--control", action="store_true", help="take commands on standard input")
    return parser.parse_args()


def _keep_stdout_for_answers(work: Path):
    """FlexMeasures prints; only answers may reach the standard output our owner reads."""
    answers = os.fdopen(os.dup(1), "w")
    with (work / "server.log").open("a") as log:
        os.dup2(log.fileno(), 1)
    return answers


def _lock(work: Path):
    lock = (work / "lock").open("w")
    give_up_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > give_up_s:
                raise SystemExit(f"another FlexMeasures is using {work}") from None
            time.sleep(0.1)
        else:
            return lock


def _build(database: Postgres, work: Path, timezone: str):
    """Make the app; PostgreSQL starts while the modules are being read."""
    trouble: list[BaseException] = []
    waiting = threading.Thread(target=_catch, args=(database.wait, trouble), daemon=True)
    waiting.start()

    import fakeredis
    from rq import Queue

    shortcuts.take()
    import flexmeasures.app

    redis = fakeredis.FakeServer()
    flexmeasures.app.Redis = lambda *args, **named: fakeredis.FakeStrictRedis(server=redis)
    waiting.join()
    if trouble:
        raise trouble[0]

    config = work / "flexmeasures.cfg"
    if not config.exists():
        config.write_text(_SETTINGS.format(secret=secrets.token_urlsafe(32), timezone=timezone))
    os.environ["SQLALCHEMY_DATABASE_URI"] = database.uri
    # It reports missing tables before they are made, and settings a house has no use for.
    logging.disable(logging.ERROR if database.is_fresh else logging.WARNING)
    app = flexmeasures.app.create(env="production", path_to_config=str(config))
    logging.disable(logging.NOTSET)
    for name in ("scheduling", "forecasting"):  # computed inside the request
        app.queues[name] = Queue(
            name=name, connection=app.redis_connection, is_async=False, default_timeout=-1
        )
    if database.is_fresh:
        _make_schema(app)
        database.mark_complete()
    app.database_schema_is_migrated_to_head = True
    return app


def _catch(action, trouble: list[BaseException]) -> None:
    try:
        action()
    except SystemExit as problem:
        trouble.append(problem)


def _make_schema(app) -> None:
    import flask_migrate
    from flexmeasures.data import db
    from sqlalchemy import text

    with app.app_context():
        from flexmeasures.data.scripts import data_gen

        for name in ("cube", "earthdistance"):
            db.session.execute(text(f"create extension if not exists {name}"))
        db.session.commit()
        flask_migrate.upgrade(directory=str(Path(app.root_path) / "data" / "migrations"))
        with contextlib.redirect_stdout(None):
            data_gen.add_default_asset_types(db)
            data_gen.add_default_user_roles(db)
            data_gen.add_default_data_sources(db)
        db.session.commit()


def _listen(app, port: int):
    from waitress.server import create_server

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        return create_server(app, host="127.0.0.1", port=port, threads=4)
    except OSError as problem:
        raise SystemExit(f"port {port} on 127.0.0.1: {problem.strerror}") from None


if __name__ == "__main__":
    main()
