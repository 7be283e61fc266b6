"""What the owner of the house's FlexMeasures may ask of it beyond its API: see Control's methods.

One JSON object per line: {"do": METHOD, …arguments}. Each is answered by {"answer": …} or
{"error": "…"}. There is no other door to this: no port, no password.
"""

import contextlib
import json
import threading
import traceback


def listen(app, commands, answers, first, at_end) -> None:
    """Answer commands in a thread of our own; when they end, call at_end."""
    house = Control(app)

    def say(what) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    def answer_all() -> None:
        with contextlib.suppress(BrokenPipeError):
            say(first)
            for line in commands:
                try:
                    wanted = json.loads(line)
                    with app.app_context(), contextlib.redirect_stdout(None):
                        say({"answer": getattr(house, wanted.pop("do"))(**wanted)})
                except Exception:  # noqa: BLE001 – the owner hears of it
                    say({"error": traceback.format_exc()})
        at_end()

    threading.Thread(target=answer_all, daemon=True).start()


class Control:
    """Each method runs inside the app's context and returns something JSON can say."""

    def __init__(self, app) -> None:
        self._app = app
        self._worker = None

    def make_user(self, account: str, email: str, password: str, admin: bool) -> dict[str, int]:
        """Make a user, and its account where that is missing; an existing user is left alone."""
        from flexmeasures.data import db
        from flexmeasures.data.models.user import User
        from flexmeasures.data.services.users import create_user
        from sqlalchemy import select

        user = db.session.execute(select(User).filter_by(email=email)).scalar()
        if user is None:
            user = create_user(
                username=email,
                email=email,
                password=password,
                account_name=account,
                timezone=self._app.config["FLEXMEASURES_TIMEZONE"],
                user_roles=["account-admin"] if admin else [],
                check_email_deliverability=False,
            )
            db.session.commit()
        return {"user_id": user.id, "account_id": user.account_id}

    def forget_tokens(self, email: str) -> None:
        """Make every token of this user invalid, as time or a new password would."""
        import secrets

        from flexmeasures.data import db
        from flexmeasures.data.models.user import User
        from sqlalchemy import select

        user = db.session.execute(select(User).filter_by(email=email)).scalar_one()
        user.fs_uniquifier = secrets.token_hex(16)
        db.session.commit()

    def compute(self, how: str) -> None:
        """How schedules are computed from now on: in the request that triggers them (direct), or
        by workers that nobody started (never)."""
        from rq import Queue

        self._app.queues["scheduling"] = Queue(
            name="scheduling",
            connection=self._app.redis_connection,
            is_async=how == "never",
            default_timeout=-1,
        )

    def ingest(self, how: str) -> None:
        """How posted data is taken from now on.

        direct: in the request (200). worker: by a job (202). stalled: a worker is registered but
        works on nothing. lost: as stalled, and every job so far is forgotten.
        """
        from ingestion import IngestionWorker

        queue = self._app.queues["ingestion"]
        if self._worker:
            self._worker.stop()
            self._worker = None
        if how == "lost":
            for job in queue.jobs:
                job.delete()
        if how != "direct":
            self._worker = IngestionWorker(self._app, queue, works=how == "worker")
            self._worker.start()
