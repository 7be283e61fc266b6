"""A worker for FlexMeasures' ingestion queue in a thread of the server's own process."""

import threading

from rq.timeouts import TimerDeathPenalty
from rq.worker import SimpleWorker

STOP_WITHIN_S = 10


class _ThreadWorker(SimpleWorker):
    """rq's worker, without the signals that only a main thread may use."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        pass


class IngestionWorker:
    """FlexMeasures answers 202 while this is registered; `works` = False leaves jobs queued."""

    def __init__(self, app, queue, works: bool) -> None:
        self._app = app
        self._queue = queue
        self._worker = _ThreadWorker([queue], connection=queue.connection)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True) if works else None

    def start(self) -> None:
        self._worker.register_birth()
        if self._thread:
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join(STOP_WITHIN_S)
        self._worker.register_death()

    def _work(self) -> None:
        while not self._ended.wait(0.02):
            with self._app.app_context():
                while job := self._queue.dequeue_any(
                    [self._queue], None, connection=self._queue.connection
                ):
                    self._worker.perform_job(job[0], job[1])
