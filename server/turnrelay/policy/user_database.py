"""UserDatabase: users in an SQLite file. Keys are stored, never passwords."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    insert,
    select,
)
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.schema import CreateIndex, CreateTable, Index
from stunwire import PasswordAlgorithm, long_term_key, opaque_string, userhash

from turnrelay.core.protocols import Credential, KeyQuery
from turnrelay.policy.errors import OperatorError
from turnrelay.policy.private_file import open_private, require_private
from turnrelay.policy.time_limited import parse_time_limited

FILE_NAME = "users.sqlite3"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x7455524E
"""SQLite's mark of whose file it is ("tURN")."""

_CACHED_QUERIES = 4096
_USERNAME_BYTES = 508  # RFC 8489 section 14.3: less than 509 bytes

_metadata = MetaData()
_users = Table(
    "users",
    _metadata,
    Column("username", String, primary_key=True),
    Column("realm", String, primary_key=True),
    Column("key_md5", LargeBinary, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False),
    Column("userhash", LargeBinary, nullable=False),
    Column("created_at", Integer, nullable=False),
)
_by_userhash = Index("users_by_userhash", _users.c.userhash)


class UserRecord(NamedTuple):
    """A user as `turnrelay users list` shows it."""

    username: str
    realm: str
    created_at: datetime


class UserDatabase:
    """The users of one realm in one file. The file need not exist: then there are none.

    Lookups are remembered for `cache_seconds`, hits and misses alike, so that a storm of requests does not
    become a storm of reads; what another process changes is seen after that time. All errors that an
    operator can mend are OperatorError.

    The file keeps SQLite's rollback journal: writes are rare, and a write-ahead log would be a second file
    that a backup misses and that SQLite replays onto whatever file is put in the place of the first.
    """

    def __init__(self, path: Path, realm: str, *, cache_seconds: float = 2.0) -> None:
        self._path = path
        self._realm = realm
        self._cache_seconds = cache_seconds
        self._cache: OrderedDict[KeyQuery, tuple[float, tuple[Credential, ...]]] = OrderedDict()
        self._engine = create_engine(URL.create("sqlite", database=str(path)))
        self._thread = ThreadPoolExecutor(1, "users")
        """Several would read no faster, but compete with the event loop for the interpreter."""
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that the pooled connections have open."""

    def find_cached(self, query: KeyQuery, now_unix: float) -> tuple[Credential, ...] | None:
        """What is known of `query` without touching the database, None if nothing is."""
        known = self._cache.get(query)
        # The lower bound: a clock that was set back must not keep an entry alive.
        if known is not None and 0 <= now_unix - known[0] < self._cache_seconds:
            return known[1]
        return None if self._path.exists() else ()

    async def find(self, query: KeyQuery, now_unix: float) -> tuple[Credential, ...]:
        """The user asked for, as a tuple of one, or an empty one."""
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self.look_up, query)
        self._cache[query] = (now_unix, found)
        self._cache.move_to_end(query)
        if len(self._cache) > _CACHED_QUERIES:
            self._cache.popitem(last=False)
        return found

    def look_up(self, query: KeyQuery) -> tuple[Credential, ...]:
        """Reads the file, blocking."""
        if query.username is not None:
            wanted = _users.c.username == query.username
        else:
            wanted = _users.c.userhash == query.userhash
        with self._reading() as connection:
            if connection is None:
                return ()
            row = connection.execute(select(_users).where(wanted, _users.c.realm == self._realm)).first()
        if row is None:
            return ()
        keys = {PasswordAlgorithm.MD5: row.key_md5, PasswordAlgorithm.SHA256: row.key_sha256}
        return (Credential(row.username, row.username, keys, removable=True),)

    def check(self) -> None:
        """OperatorError if there is a file that cannot be used."""
        with self._reading():
            pass

    def add(self, name: str, password: str, now_unix: float) -> None:
        """Adds a user; makes the file (mode 0600, the owner that of its directory) if there is none."""
        username = _usable_name(name)
        try:
            row = {
                "username": username,
                "realm": self._realm,
                "key_md5": long_term_key(username, self._realm, password, PasswordAlgorithm.MD5),
                "key_sha256": long_term_key(username, self._realm, password, PasswordAlgorithm.SHA256),
                "userhash": userhash(username, self._realm),
                "created_at": int(now_unix),
            }
        except ValueError as error:
            raise OperatorError(f"{error}; choose another one") from None
        with self._writing() as connection:
            try:
                connection.execute(insert(_users), row)
            except IntegrityError:
                raise OperatorError(
                    f"user {username!r} exists already in realm {self._realm!r}; "
                    f"to change the password: turnrelay users remove {username}, then add it again"
                ) from None

    def remove(self, name: str) -> None:
        """Removes a user. Their allocations last until their lifetime ends: no Refresh prolongs them."""
        wanted = (_users.c.username == _usable_name(name)) & (_users.c.realm == self._realm)
        unknown = OperatorError(
            f"no user {name!r} in realm {self._realm!r} of {self._path}; see: turnrelay users list"
        )
        if not self._path.exists():
            raise unknown
        with self._writing() as connection:
            if connection.execute(delete(_users).where(wanted)).rowcount == 0:
                raise unknown

    def list_users(self) -> list[UserRecord]:
        """All users of all realms by name; a user of another realm cannot authenticate here."""
        columns = select(_users.c.username, _users.c.realm, _users.c.created_at)
        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(columns.order_by(_users.c.username, _users.c.realm)).all()
        return [UserRecord(row[0], row[1], datetime.fromtimestamp(row[2], UTC)) for row in rows]

    def close(self) -> None:
        self._thread.shutdown()
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """A connection to a file with our table in it, None if there is no file or nothing in it yet."""
        with self._explained():
            if not self._path.exists():
                yield None
                return
            self._follow_file()
            with self._engine.connect() as connection:
                yield connection if self._has_our_schema(connection) else None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A connection in a transaction, to a file that has our table."""
        with self._explained():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before SQLite would make it: its journals take over the mode of the file.
            os.close(open_private(self._path))
            self._follow_file()
            # AUTOCOMMIT leaves BEGIN to us: IMMEDIATE, so that two writers wait rather than collide.
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    # Within the transaction: another writer may be making the schema just now.
                    if not self._has_our_schema(connection):
                        _make_schema(connection)
                    yield connection
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")

    def _follow_file(self) -> None:
        """Drops connections to a file that has been replaced, say by one from a backup."""
        require_private(self._path)
        status = self._path.stat()
        file = (status.st_dev, status.st_ino)
        if file != self._file:
            self._engine.dispose()
            self._file = file

    def _has_our_schema(self, connection: Connection) -> bool:
        """False for an empty file; OperatorError for a file that is not ours to use."""
        owner = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        if not owner and not tables:
            return False
        if owner != APPLICATION_ID:
            raise OperatorError(f"{self._path}: is a database of another program; choose another --data-dir")
        if version > SCHEMA_VERSION:
            raise OperatorError(
                f"{self._path}: was written by a newer turnrelay (schema {version}, "
                f"this one knows {SCHEMA_VERSION}); upgrade, or choose another --data-dir"
            )
        return True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise OperatorError(
                f"{self._path}: cannot be read or written ({error.orig}); "
                "see that this user may do so, that the disk has room, and that nothing locks the file"
            ) from None
        except DatabaseError as error:
            raise OperatorError(
                f"{self._path}: is no user database ({error.orig}); move it away or restore it from a backup"
            ) from None
        except OSError as error:
            raise OperatorError(f"{self._path}: cannot be opened ({error.strerror})") from None


def _make_schema(connection: Connection) -> None:
    connection.execute(CreateTable(_users, if_not_exists=True))
    connection.execute(CreateIndex(_by_userhash, if_not_exists=True))
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _usable_name(name: str) -> str:
    try:
        username = opaque_string(name, "user name")
    except ValueError as error:
        raise OperatorError(f"{error}; choose another one") from None
    if ":" in username or parse_time_limited(username) is not None:
        raise OperatorError(
            f"user name {name!r}: colons and names of up to ten digits are kept for "
            "time-limited credentials (EXPIRY:NAME); choose another one"
        )
    if len(username.encode()) > _USERNAME_BYTES:
        raise OperatorError(f"user name of {len(username.encode())} bytes; at most {_USERNAME_BYTES} fit")
    return username
