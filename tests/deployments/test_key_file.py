"""The key file: only hashes in it, written whole, and taken up while the server runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deployments.key_file import Key, KeyFileError, KeyStore, new_key, read_keys
from deployments.keys import app


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def keys(*words: str):
    return CliRunner().invoke(app, list(words))


def created(file: Path, name: str, *words: str) -> bytes:
    """A new key of the file."""
    done = keys("create", name, "--file", str(file), *words)
    assert done.exit_code == 0
    return done.stdout.strip().encode()


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_256_random_bits_and_only_its_hash_is_stored(file):
    secret = created(file, "alice")

    (key,) = read_keys(file).keys
    assert secret.startswith(b"dk_")
    assert len(secret) == 3 + 43  # 32 bytes in base64
    assert key.sha256 == hashlib.sha256(secret).hexdigest()
    assert secret[3:] not in file.read_bytes()
    assert len({new_key() for _ in range(100)}) == 100


def test_the_file_is_its_owners_alone_and_nothing_else_is_left_behind(file):
    created(file, "alice")
    file.chmod(0o644)
    created(file, "bob")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]


def test_a_link_to_the_file_stays_a_link(file, tmp_path):
    link = tmp_path / "link.json"
    created(file, "alice")
    link.symlink_to(file)
    created(link, "bob")

    assert link.is_symlink()
    assert [key.name for key in read_keys(file).keys] == ["alice", "bob"]


def test_scopes_and_limits_are_those_of_the_command(file):
    created(file, "plain")
    created(file, "both", "--scope", "infer", "--scope", "metrics", "--concurrent-requests", "3")
    created(file, "few", "--requests-per-minute", "5", "--token-forwards-per-minute", "700")

    plain, both, few = read_keys(file).keys
    assert (plain.scopes, plain.requests_per_minute) == (("infer",), None)
    assert (both.scopes, both.concurrent_requests) == (("infer", "metrics"), 3)
    assert (few.requests_per_minute, few.token_forwards_per_minute) == (5, 700)


def test_a_key_that_is_made_can_be_read_by_programs_and_is_listed_without_its_secret(file):
    made = json.loads(keys("create", "alice", "--file", str(file), "--json").stdout)
    listed = keys("list", "--file", str(file))
    as_json = json.loads(keys("list", "--file", str(file), "--json").stdout)

    assert made["name"] == "alice"
    assert "alice" in listed.stdout
    assert made["key"] not in listed.stdout
    assert [(key["name"], key["scopes"]) for key in as_json] == [("alice", ["infer"])]


def test_a_revoked_key_is_gone_and_the_others_stay(file):
    created(file, "alice")
    created(file, "bob")

    done = keys("revoke", "alice", "--file", str(file))

    assert (done.exit_code, done.stdout) == (0, "")
    assert [key.name for key in read_keys(file).keys] == ["bob"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["create", "alice"], ["alice", "revoke it"]),
        (["create", "two words"], ["name"]),
        (["create", "bob", "--scope", "admin"], ["scopes", "'infer' or 'metrics'"]),
        (["revoke", "bob"], ["no key named bob"]),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(file, words, names):
    created(file, "alice")
    before = file.read_bytes()

    done = keys(*words, "--file", str(file))

    (line,) = done.stderr.splitlines()
    assert (done.exit_code, file.read_bytes()) == (2, before)
    assert line.startswith("error: ")
    assert all(name in line for name in names)


@pytest.mark.parametrize(
    ("command", "path"), [("list", "missing.json"), ("create", "missing/keys.json")]
)
def test_a_file_or_folder_that_is_not_there_is_one_line(tmp_path, command, path):
    done = keys(command, *(["a"] if command == "create" else []), "--file", str(tmp_path / path))

    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "No such file" in done.stderr


HASH = "ab" * 32
ENTRY = {"name": "a", "sha256": HASH}


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("{", "the file"),
        ("[]", "the file"),
        ({"keyz": []}, "keyz"),
        ({"keys": [{"name": "a"}]}, "keys.0.sha256"),
        ({"keys": [ENTRY | {"sha256": HASH.upper()}]}, "keys.0.sha256"),
        ({"keys": [ENTRY | {"scopes": []}]}, "keys.0.scopes"),
        ({"keys": [ENTRY | {"requests_per_minute": 0}]}, "keys.0.requests_per_minute"),
        ({"keys": [ENTRY | {"requests_per_minute": "9"}]}, "keys.0.requests_per_minute"),
        ({"keys": [ENTRY, ENTRY | {"name": "b"}]}, "same sha256"),
        ({"keys": [ENTRY, ENTRY | {"sha256": "cd" * 32}]}, "same name"),
    ],
)
def test_a_broken_file_is_told_by_the_place_and_without_its_content(file, content, where):
    file.write_text(content if isinstance(content, str) else json.dumps(content))

    with pytest.raises(KeyFileError) as caught:
        read_keys(file)

    assert where in str(caught.value)
    assert HASH not in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_a_key_is_found_by_its_bytes_and_nothing_else_is(file):
    alice, bob = created(file, "alice"), created(file, "bob")
    store = KeyStore(file, Clock())

    assert [store.find(secret).name for secret in (alice, bob)] == ["alice", "bob"]
    for wrong in (b"", alice[:-1], alice + b" ", b"\xff\xfe", alice.upper(), HASH.encode()):
        assert store.find(wrong) is None


@given(st.binary(max_size=80))
def test_no_other_bytes_are_a_key(tmp_path_factory, credential):
    file = tmp_path_factory.getbasetemp() / "law.json"
    if not file.exists():
        created(file, "alice")

    assert KeyStore(file, Clock()).find(credential) is None


def test_a_change_of_the_file_holds_after_a_second(file):
    clock = Clock()
    alice = created(file, "alice")
    store = KeyStore(file, clock)

    keys("revoke", "alice", "--file", str(file))
    bob = created(file, "bob")
    clock.now = 0.9
    assert store.find(alice) is not None
    clock.now = 1.0

    assert store.find(alice) is None
    assert store.find(bob) is not None


def test_a_broken_file_keeps_the_keys_and_says_so_once(file, caplog):
    clock = Clock()
    alice = created(file, "alice")
    whole = file.read_bytes()
    store = KeyStore(file, clock)

    with caplog.at_level(logging.WARNING):
        for content in (b"{", None):
            file.write_bytes(content) if content else file.unlink()
            for _ in range(3):
                clock.now += 1
                assert store.find(alice) is not None
    file.write_bytes(whole.replace(b"alice", b"alicia"))
    clock.now += 1

    assert store.find(alice).name == "alicia"
    assert [len(record.message.splitlines()) for record in caplog.records] == [1, 1]
    assert "keys before it hold" in caplog.text


def test_a_store_needs_a_file_that_can_be_read(file):
    with pytest.raises(KeyFileError, match="No such file"):
        KeyStore(file, Clock())


def test_a_file_without_keys_lets_nobody_in(file):
    file.write_text('{"keys": []}')

    assert KeyStore(file, Clock()).find(b"") is None


def test_a_key_without_limits_has_none():
    key = Key(name="a", sha256=HASH)

    assert (key.scopes, key.concurrent_requests) == (("infer",), None)
