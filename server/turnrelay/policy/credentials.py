"""Who may authenticate: static users, time-limited names under shared secrets, the user database."""

from collections.abc import Iterable

from stunwire import opaque_string, userhash

from turnrelay.core.protocols import Credential, KeyQuery
from turnrelay.policy.time_limited import SharedSecrets, make_credential, parse_time_limited
from turnrelay.policy.user_database import UserDatabase


class StaticUsers:
    """Users named in the settings."""

    def __init__(self, users: Iterable[tuple[str, str]], realm: str) -> None:
        """`users` are pairs of name and password. PreparationError for one that OpaqueString refuses."""
        self._by_name: dict[str, Credential] = {}
        self._by_hash: dict[bytes, Credential] = {}
        for name, password in users:
            username = opaque_string(name, "user name")
            credential = make_credential(username, realm, password)
            self._by_name[username] = credential
            self._by_hash[userhash(username, realm)] = credential

    def find(self, query: KeyQuery) -> Credential | None:
        if query.username is not None:
            return self._by_name.get(query.username)
        return self._by_hash.get(query.userhash) if query.userhash is not None else None


class UserDirectory:
    """Everyone who may authenticate.

    `find_now` answers what memory can answer; where it returns None, `find` asks the database in a worker
    thread. Both return the candidates in the order in which to try them; none for an unknown user, which
    is also what an expired one is.
    """

    def __init__(
        self,
        static: StaticUsers | None = None,
        secrets: SharedSecrets | None = None,
        database: UserDatabase | None = None,
    ) -> None:
        self._static = static
        self._secrets = secrets if secrets else None
        self._database = database

    @property
    def supports_userhash(self) -> bool:
        """Whether to offer USERHASH. A time-limited name cannot be found from its hash."""
        return self._secrets is None

    def find_now(self, query: KeyQuery, now_unix: float) -> tuple[Credential, ...] | None:
        """The candidates, or None if only the database can tell."""
        known = self._find_in_memory(query, now_unix)
        if known or self._database is None or self._names_no_database_user(query):
            return known
        return self._database.find_cached(query, now_unix)

    async def find(self, query: KeyQuery, now_unix: float) -> tuple[Credential, ...]:
        """The candidates. OperatorError if the database cannot be read."""
        known = self.find_now(query, now_unix)
        if known is not None:
            return known
        assert self._database is not None  # find_now() leaves nothing else open
        return await self._database.find(query, now_unix)

    def _find_in_memory(self, query: KeyQuery, now_unix: float) -> tuple[Credential, ...]:
        static = self._static.find(query) if self._static is not None else None
        candidates: tuple[Credential, ...] = () if static is None else (static,)
        if self._secrets is not None and query.username is not None:
            candidates += self._secrets.find(query.username, now_unix)
        return candidates

    def _names_no_database_user(self, query: KeyQuery) -> bool:
        # `UserDatabase.add` refuses such names, so a flood of made-up ones need not reach the disk.
        return query.username is not None and parse_time_limited(query.username) is not None


__all__ = ["SharedSecrets", "StaticUsers", "UserDatabase", "UserDirectory"]
