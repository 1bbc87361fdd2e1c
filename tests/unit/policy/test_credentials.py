"""Who may authenticate: static users, time-limited names, and the directory of all."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import PasswordAlgorithm, long_term_key, userhash
from turnrelay.core.protocols import KeyQuery
from turnrelay.policy.credentials import SharedSecrets, StaticUsers, UserDatabase, UserDirectory
from turnrelay.policy.time_limited import TimeLimitedName, parse_time_limited, rest_password

REALM = "example.org"
NOW = 1_700_000_000.0
VECTOR = json.loads((Path(__file__).parents[2] / "vectors/stun.json").read_text())["turn_rest"]


def by_name(name: str) -> KeyQuery:
    return KeyQuery(username=name)


def test_the_vector_of_the_turn_rest_convention():
    assert rest_password(VECTOR["secret"], VECTOR["username"]) == VECTOR["password_b64_hmac_sha1"]
    [credential] = SharedSecrets([VECTOR["secret"]], REALM).find(VECTOR["username"], NOW)
    for algorithm in PasswordAlgorithm:
        key = long_term_key(VECTOR["username"], REALM, VECTOR["password_b64_hmac_sha1"], algorithm)
        assert credential.keys[algorithm] == key
    assert credential.account == "alice"


@pytest.mark.parametrize(
    ("username", "expected"),
    [
        ("1893456000:alice", TimeLimitedName(1893456000, "alice")),
        ("1893456000", TimeLimitedName(1893456000, "1893456000")),
        ("1893456000:", TimeLimitedName(1893456000, "1893456000")),
        ("1893456000:@alice:example.org", TimeLimitedName(1893456000, "@alice:example.org")),
        ("9999999999:x", TimeLimitedName(9999999999, "x")),
        ("1893456000000:alice", None),  # milliseconds
        ("01893456000:alice", None),
        ("0:alice", None),
        ("-1893456000:alice", None),
        ("+1893456000:alice", None),
        (" 1893456000:alice", None),
        ("1893456000 :alice", None),
        ("1_893_456_000:alice", None),
        ("1893456000.5:alice", None),
        ("0x70dbd880:alice", None),
        ("١٨٩٣٤٥٦٠٠٠:alice", None),
        ("alice:1893456000", None),
        ("alice", None),
        (":alice", None),
        ("", None),
    ],
)
def test_time_limited_names(username, expected):
    assert parse_time_limited(username) == expected


@pytest.mark.parametrize(("late_by", "found"), [(-1, True), (0, True), (0.5, False), (3600, False)])
def test_an_expired_name_is_an_unknown_one(late_by, found):
    secrets = SharedSecrets(["north"], REALM)
    username, _ = secrets.mint("alice", 600, NOW)
    assert bool(secrets.find(username, NOW + 600 + late_by)) is found


def test_it_expires_though_its_keys_are_remembered():
    secrets = SharedSecrets(["north"], REALM)
    username, _ = secrets.mint("alice", 600, NOW)
    assert secrets.find(username, NOW)
    assert secrets.find(username, NOW + 601) == ()


def test_while_secrets_rotate_each_gives_a_candidate():
    username, password = SharedSecrets(["old"], REALM).mint("alice", 600, NOW)
    candidates = SharedSecrets(["new", "old"], REALM).find(username, NOW)
    key = long_term_key(username, REALM, password)
    assert [credential.keys[PasswordAlgorithm.MD5] == key for credential in candidates] == [False, True]


def test_the_first_secret_mints():
    username, password = SharedSecrets(["new", "old"], REALM).mint("alice", 600, NOW)
    assert password == rest_password("new", username)
    assert username == f"{int(NOW) + 600}:alice"


@given(st.text(min_size=1, max_size=40), st.integers(1, 10**8))
def test_what_is_minted_is_found(name, ttl):
    secrets = SharedSecrets(["north"], REALM)
    try:
        username, password = secrets.mint(name, ttl, NOW)
    except ValueError:
        return  # a name that OpaqueString refuses
    [credential] = secrets.find(username, NOW)
    assert credential.keys[PasswordAlgorithm.MD5] == long_term_key(username, REALM, password)


def test_minting_refuses_what_could_not_be_found():
    with pytest.raises(ValueError, match="ten digits"):
        SharedSecrets(["north"], REALM).mint("alice", 10**10, NOW)
    with pytest.raises(ValueError, match="no shared secret"):
        SharedSecrets([], REALM).mint("alice", 600, NOW)
    with pytest.raises(ValueError):
        SharedSecrets(["north"], REALM).mint("al\x00ice", 600, NOW)


def test_static_users_are_found_by_name_and_by_hash():
    users = StaticUsers([("alice", "secret"), ("マトリックス", "TheMatrIX")], "example.org")
    credential = users.find(by_name("マトリックス"))
    assert credential is not None
    assert credential.keys[PasswordAlgorithm.MD5].hex() == "e8ca7ad59d5eb0518e312911d2dab2a9"
    assert users.find(KeyQuery(userhash=userhash("マトリックス", REALM))) is credential
    assert users.find(by_name("bob")) is None
    assert users.find(KeyQuery(userhash=bytes(32))) is None
    assert users.find(KeyQuery()) is None


def directory(tmp_path: Path, *, secrets: bool = True) -> UserDirectory:
    database = UserDatabase(tmp_path / "users.sqlite3", REALM)
    database.add("dora", "stored", NOW)
    return UserDirectory(
        StaticUsers([("alice", "static")], REALM),
        SharedSecrets(["north"] if secrets else [], REALM),
        database,
    )


async def test_the_directory_asks_everyone(tmp_path):
    users = directory(tmp_path)
    limited, _ = SharedSecrets(["north"], REALM).mint("carol", 600, NOW)
    for name in ("alice", limited, "dora"):
        [credential] = await users.find(by_name(name), NOW)
        assert credential.username == name
    assert await users.find(by_name("nobody"), NOW) == ()


async def test_memory_answers_what_it_can(tmp_path):
    users = directory(tmp_path)
    assert users.find_now(by_name("alice"), NOW)
    assert users.find_now(by_name("1:carol"), NOW) == ()  # expired, and no name for the database
    assert users.find_now(by_name("dora"), NOW) is None
    await users.find(by_name("dora"), NOW)
    [credential] = users.find_now(by_name("dora"), NOW) or ()
    assert credential.account == "dora"
    assert users.find_now(by_name("dora"), NOW + 10) is None


def test_without_a_database_nothing_waits(tmp_path):
    missing = UserDatabase(tmp_path / "users.sqlite3", REALM)
    assert UserDirectory(StaticUsers([], REALM)).find_now(by_name("x"), NOW) == ()
    assert UserDirectory(database=missing).find_now(by_name("x"), NOW) == ()


def test_userhash_is_offered_where_every_user_can_be_found_by_it(tmp_path):
    assert directory(tmp_path, secrets=False).supports_userhash
    assert not UserDirectory(secrets=SharedSecrets(["north"], REALM)).supports_userhash


def test_a_static_user_that_looks_time_limited_comes_first():
    users = UserDirectory(StaticUsers([("1893456000", "static")], REALM), SharedSecrets(["north"], REALM))
    candidates = users.find_now(by_name("1893456000"), NOW)
    assert candidates is not None
    assert [len(candidates), candidates[0].keys[PasswordAlgorithm.MD5]] == [
        2,
        long_term_key("1893456000", REALM, "static"),
    ]
