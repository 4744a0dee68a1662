"""The file of API keys: names, hashes, scopes and limits. Keys themselves are never stored."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from dream.errors import DreamError
from dream.request import Priority

__all__ = ["Key", "KeyFile", "KeyFileError", "KeyStore", "Scope", "editing", "new_key", "read_keys"]

Scope = Literal["infer", "metrics"]
Count = Annotated[int, Field(ge=1)]

LOOK_EVERY_S = 1.0
"""How often the file is looked at: a change holds this much later at most."""

_log = logging.getLogger(__name__)


class KeyFileError(DreamError):
    """A key file that cannot be read, written or understood."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Key(_Entry):
    """One key: its name in logs, the SHA-256 of it, what it may do and how much of it.

    A limit that is None does not hold. Limits of a minute hold for every 60 seconds. priority: of
    its requests; those of a batch key run behind interactive ones.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("infer",)
    requests_per_minute: Count | None = None
    token_forwards_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    priority: Priority = "interactive"


class KeyFile(_Entry):
    """Every key there is; names and hashes are unique."""

    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _are_apart(self) -> KeyFile:
        for field in ("name", "sha256"):
            if len({getattr(key, field) for key in self.keys}) < len(self.keys):
                raise PydanticCustomError(
                    "twice", "Two keys have the same {field}", {"field": field}
                )
        return self


def new_key() -> tuple[str, str]:
    """A key of 256 random bits, and the SHA-256 that is stored of it."""
    key = "dk_" + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode("ascii")).hexdigest()


def read_keys(path: Path) -> KeyFile:
    """The keys of a file; KeyFileError says in one line what is wrong with it."""
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"key file {path}: {error.strerror}") from None
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise KeyFileError(f"key file {path}: {where}: {first['msg']}") from None


@contextmanager
def editing(path: Path) -> Iterator[list[Key]]:
    """The keys of a file, to be changed in place; written when the body ends well.

    One at a time edits the files of a folder. A file that is not there has no keys.
    """
    path = path.resolve()
    with _locked(path.parent):
        keys = list(read_keys(path).keys) if path.exists() else []
        yield keys
        _write(path, KeyFile(keys=tuple(keys)))


class KeyStore:
    """The keys of a file as they are now: a change of the file holds within a second.

    A file that cannot be read changes nothing: the keys before it hold, and the log says so once.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._version = _version(path)
        self._keys = _digests(read_keys(path))

    def find(self, credential: bytes) -> Key | None:
        """Whose key these bytes are. Every key is compared, whichever of them it is."""
        self._reload()
        digest = hashlib.sha256(credential).digest()
        found: Key | None = None
        for stored, key in self._keys:
            if hmac.compare_digest(stored, digest):
                found = key
        return found

    def _reload(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = _digests(read_keys(self._path))
        except KeyFileError as error:
            _log.warning("%s; the keys before it hold", error)


def _digests(file: KeyFile) -> list[tuple[bytes, Key]]:
    return [(bytes.fromhex(key.sha256), key) for key in file.keys]


def _version(path: Path) -> tuple[int, int, int] | None:
    """What changes with the file; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeyFileError(f"folder {folder}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, file: KeyFile) -> None:
    """All of it or nothing, readable by its owner alone."""
    unfinished: str | None = None
    try:
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(file.model_dump_json(indent=1, exclude_none=True) + "\n")
            stream.flush()
            os.fsync(handle)
        os.replace(unfinished, path)
    except OSError as error:
        if unfinished is not None:
            Path(unfinished).unlink(missing_ok=True)
        raise KeyFileError(f"key file {path}: {error.strerror}") from None
