"""Users in an SQLite file: keys only, seen by other processes, clear about what is wrong with the file."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stunwire import PasswordAlgorithm, long_term_key, userhash
from turnrelay.core.protocols import KeyQuery
from turnrelay.policy.errors import OperatorError
from turnrelay.policy.user_database import SCHEMA_VERSION, UserDatabase, UserRecord

REALM = "example.org"
NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "users.sqlite3"


@pytest.fixture
def users(path: Path) -> UserDatabase:
    return UserDatabase(path, REALM)


async def test_an_added_user_is_found_by_name_and_by_hash(users):
    users.add("alice", "secret", NOW)
    [credential] = await users.find(KeyQuery(username="alice"), NOW)
    assert (credential.username, credential.account) == ("alice", "alice")
    assert dict(credential.keys) == {
        algorithm: long_term_key("alice", REALM, "secret", algorithm) for algorithm in PasswordAlgorithm
    }
    assert await users.find(KeyQuery(userhash=userhash("alice", REALM)), NOW) == (credential,)
    assert await users.find(KeyQuery(username="bob"), NOW) == ()
    assert await users.find(KeyQuery(userhash=bytes(32)), NOW) == ()


def test_no_password_is_in_the_file(users, path):
    users.add("alice", "correct horse battery staple", NOW)
    assert not any(b"horse" in file.read_bytes() for file in path.parent.iterdir())


def test_the_one_file_is_private(users, path):
    users.add("alice", "secret", NOW)
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_list_and_remove(users):
    assert users.list_users() == []
    users.add("bob", "secret", NOW)
    users.add("alice", "secret", NOW)
    added = datetime.fromtimestamp(NOW, UTC)
    assert users.list_users() == [UserRecord("alice", REALM, added), UserRecord("bob", REALM, added)]
    users.remove("bob")
    assert [user.username for user in users.list_users()] == ["alice"]


def test_a_realm_has_its_own_users(users, path):
    users.add("alice", "secret", NOW)
    other = UserDatabase(path, "example.net")
    assert other.look_up(KeyQuery(username="alice")) == ()
    other.add("alice", "other", NOW)
    assert len(users.list_users()) == 2
    other.remove("alice")
    assert users.look_up(KeyQuery(username="alice"))


def test_names_are_prepared(users):
    users.add("ali\u0301ce", "secret", NOW)  # i and a combining accent, as some keyboards send it
    assert users.look_up(KeyQuery(username="al\u00edce"))


async def test_what_another_process_changes_is_seen_within_the_cache_time(users, path):
    users.add("alice", "secret", NOW)
    query = KeyQuery(username="bob")
    assert await users.find(query, NOW) == ()
    program = (
        "import sys, pathlib; from turnrelay.policy.user_database import UserDatabase;"
        "UserDatabase(pathlib.Path(sys.argv[1]), 'example.org').add('bob', 'x', 1)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert users.find_cached(query, NOW + 1) == ()
    assert users.find_cached(query, NOW + 2) is None
    assert users.find_cached(query, NOW - 1) is None, "a clock set back must not prolong it"
    assert await users.find(query, NOW + 2)


async def test_a_file_made_later_is_seen_at_once(users):
    query = KeyQuery(username="alice")
    assert users.find_cached(query, NOW) == ()
    users.add("alice", "secret", NOW)
    assert users.find_cached(query, NOW) is None
    assert await users.find(query, NOW)


def test_a_replaced_file_is_read_anew(users, path, tmp_path):
    users.add("alice", "secret", NOW)
    backup = UserDatabase(tmp_path / "backup.sqlite3", REALM)
    backup.add("bob", "secret", NOW)
    backup.close()
    assert users.look_up(KeyQuery(username="alice"))
    os.replace(tmp_path / "backup.sqlite3", path)
    assert users.look_up(KeyQuery(username="alice")) == ()
    assert users.look_up(KeyQuery(username="bob"))


async def test_the_cache_is_bounded(users, monkeypatch):
    monkeypatch.setattr("turnrelay.policy.user_database._CACHED_QUERIES", 10)
    users.add("alice", "secret", NOW)
    for number in range(25):
        await users.find(KeyQuery(username=f"user{number}"), NOW)
    assert len(users._cache) == 10
    assert users.find_cached(KeyQuery(username="user24"), NOW) == ()
    assert users.find_cached(KeyQuery(username="user0"), NOW) is None


def test_many_writers_wait_for_each_other(path):
    program = (
        "import sys, pathlib; from turnrelay.policy.user_database import UserDatabase;"
        "users = UserDatabase(pathlib.Path(sys.argv[1]), 'example.org');"
        "[users.add(f'user{sys.argv[2]}-{n}', 'x', 1) for n in range(5)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(UserDatabase(path, REALM).list_users()) == 20


def complaint(action) -> str:
    with pytest.raises(OperatorError) as caught:
        action()
    return str(caught.value)


def test_a_duplicate_user_is_an_error(users):
    users.add("alice", "secret", NOW)
    assert "exists already" in complaint(lambda: users.add("alice", "other", NOW))
    assert users.look_up(KeyQuery(username="alice"))[0].keys[PasswordAlgorithm.MD5] == long_term_key(
        "alice", REALM, "secret"
    )


def test_an_unknown_user_is_an_error(users, path):
    assert "no user 'alice'" in complaint(lambda: users.remove("alice"))
    assert not path.exists()
    users.add("bob", "secret", NOW)
    assert "no user 'alice'" in complaint(lambda: users.remove("alice"))


@pytest.mark.parametrize(
    ("name", "password", "text"),
    [
        ("al:ice", "secret", "colons"),
        ("1893456000", "secret", "ten digits"),
        ("", "secret", "user name"),
        ("alice", "", "password"),
        ("a" * 509, "secret", "at most 508"),
        ("al\x07ice", "secret", "user name"),
    ],
)
def test_names_and_passwords_that_could_not_be_used(users, path, name, password, text):
    assert text in complaint(lambda: users.add(name, password, NOW))
    assert not path.exists()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    path.chmod(0o600)


def test_a_file_that_is_no_database(users, path):
    write(path, b"Dear diary, " * 100)
    assert "no user database" in complaint(lambda: users.look_up(KeyQuery(username="alice")))
    assert "no user database" in complaint(lambda: users.add("alice", "secret", NOW))
    assert "no user database" in complaint(users.check)


def test_an_empty_file_is_an_empty_database(users, path):
    write(path, b"")
    assert users.look_up(KeyQuery(username="alice")) == ()
    users.add("alice", "secret", NOW)
    assert users.look_up(KeyQuery(username="alice"))


def test_a_database_of_another_program(users, path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (name)")
    path.chmod(0o600)
    assert "another program" in complaint(users.check)
    assert "another program" in complaint(lambda: users.add("alice", "secret", NOW))


def test_a_database_of_a_newer_version(users, path):
    users.add("alice", "secret", NOW)
    users.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert "newer turnrelay" in complaint(lambda: users.look_up(KeyQuery(username="alice")))


def test_a_database_that_others_may_read(users, path):
    users.add("alice", "secret", NOW)
    path.chmod(0o644)
    assert f"chmod 600 {path}" in complaint(lambda: users.look_up(KeyQuery(username="alice")))


def test_a_directory_in_its_place(users, path):
    path.mkdir(parents=True, mode=0o700)
    assert str(path) in complaint(lambda: users.look_up(KeyQuery(username="alice")))
