"""One driver per output: an exclusive lock file with an owner and a heartbeat."""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.common.errors import LockLost, Refused

__all__ = ["Lock", "Owner", "heartbeat_age", "process_start", "read_owner"]


class Owner(BaseModel):
    """Who holds the lock; `token` tells two holders apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str
    host: str
    boot_id: str
    pid: int
    started: str
    since: float

    @property
    def is_dead(self) -> bool:
        """Whether this machine knows that the owner's process has ended."""
        here = (self.host, self.boot_id) == (socket.gethostname(), _boot_id())
        return here and process_start(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lock:
    """Held while a driver writes; `beat` tells others that it lives, and it that it still holds."""

    def __init__(self, path: Path, *, break_it: bool = False) -> None:
        self._path = path
        self._break_it = break_it
        self._owner = Owner(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid=os.getpid(),
            started=process_start(os.getpid()),
            since=time.time(),
        )

    def __enter__(self) -> Lock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._create():
            self._take_over()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if read_owner(self._path) == self._owner:
            self._path.unlink()

    def beat(self) -> None:
        """Refresh the heartbeat; raises `LockLost` when the lock is another's."""
        if read_owner(self._path) != self._owner:
            raise LockLost(f"{self._path} is held by another driver now")
        os.utime(self._path)

    def _create(self) -> bool:
        """Write whole, then link: the lock is never seen half written."""
        whole = self._path.with_name(f".{self._path.name}.{self._owner.token}")
        whole.write_text(self._owner.model_dump_json(), encoding="utf-8")
        try:
            os.link(whole, self._path)
        except FileExistsError:
            return False
        finally:
            whole.unlink()
        return True

    def _take_over(self) -> None:
        seen = read_owner(self._path)
        if not self._break_it and (seen is None or not seen.is_dead):
            raise Refused(
                f"{self._path.parent.parent} is being written by {seen or 'an unknown driver'} "
                f"(last heartbeat {heartbeat_age(self._path):.0f} s ago); "
                "--break-lock takes it over if that driver is dead"
            )
        aside = self._path.with_name(f".{self._path.name}.{self._owner.token}.old")
        try:
            os.rename(self._path, aside)
            taken = read_owner(aside)
            if taken != seen:  # a third driver was faster: put its lock back
                os.link(aside, self._path)
        except (FileNotFoundError, FileExistsError) as error:
            raise Refused(f"{self._path}: another driver took it over first") from error
        finally:
            aside.unlink(missing_ok=True)
        if taken != seen or not self._create():
            raise Refused(f"{self._path}: another driver took it over first")


def read_owner(path: Path) -> Owner | None:
    """Who the lock file names; None where there is no lock or none that can be read."""
    try:
        return Owner.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, ValidationError):
        return None


def heartbeat_age(path: Path) -> float:
    """Seconds since the holder's last heartbeat; 0 where there is no lock."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0


def process_start(pid: int) -> str:
    """When a process began, so that a reused pid is not mistaken; empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _alive_without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _boot_id() -> str:
    """Differs between machines, boots and pid namespaces; empty where the system does not tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if not path.exists():
        return ""
    return f"{path.read_text(encoding='ascii').strip()} {os.readlink('/proc/self/ns/pid')}"


def _alive_without_proc(pid: int) -> str:
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
