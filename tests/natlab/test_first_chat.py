"""What README.md and docs/first-chat.md have two people type, as it stands there.

They sit behind NATs that only a relay joins, and the relay is a third machine. Its address, their keys and
the credential that it prints stand in the places that the documents leave for them.
"""

import re
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from interop.terminal import Terminal
from support import metrics
from support.printed import ROOT, command
from support.processes import Process, ProcessFailed

from natlab.lab import Host, Lab

README, FIRST_CHAT = "README.md", "docs/first-chat.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Machine:
    """A checkout with its environment, a home, and what is typed there."""

    def __init__(self, host: Host, home: Path, **environment: str) -> None:
        home.mkdir()
        for name, there in {"examples": ROOT / "examples", ".venv": Path(sys.prefix)}.items():
            (home / name).symlink_to(there)
        self.host = host
        self._home = home
        path = f"{home}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._environment = {"HOME": str(home), "PATH": path, "PYTHONUNBUFFERED": "1", **environment}

    def start(self, command: str) -> Process:
        return self.host.popen(["bash", "-c", command], cwd=self._home, env=self._environment)

    def run(self, command: str) -> str:
        argv = ["bash", "-c", command]
        return self.host.run(argv, timeout=60, cwd=self._home, env=self._environment).strip()

    def terminal(self, command: str) -> Terminal:
        set_ = [f"{name}={value}" for name, value in self._environment.items()]
        argv = ["env", "-C", self._home, *set_, "bash", "-c", f"exec {command}"]
        return Terminal(argv, namespace=self.host.namespace)


class Town:
    """Alice's, Bob's and the relay's machine, the relay running."""

    def __init__(self, lab: Lab, folder: Path, document: str, **environment: str) -> None:
        self._document = document
        self.server = lab.server()
        self.relay = Machine(self.server, folder / "relay")
        self.alice, self.bob = (
            Machine(lab.site("symmetric", delay=0.02).host, folder / name, **environment)
            for name in ("alice", "bob")
        )
        # What make does before it becomes the relay needs the network, and has been done for these tests.
        flags = re.fullmatch(r'make run ARGS="(.*)"', command(document, "make run ARGS"))
        assert flags
        running = self.relay.start(f"exec turnrelay serve {flags[1]}")
        running.wait_until(lambda: "Data directory" in running.output())
        welcome = running.output()
        user, password = (re.search(rf"{what} +(\S+)\n", welcome) for what in ("user", "password"))
        assert user
        assert password
        self._places = {
            "198.51.100.7": self.server.address,
            "--user U --password P": f"--user {user[1]} --password {password[1]}",
        }
        for person, key in ((self.alice, "ALICES_KEY"), (self.bob, "BOBS_KEY")):
            name = key.partition("S_")[0].lower()
            self._places[key] = person.run(self.typed(f"identity new {name}.key"))

    def typed(self, holding: str) -> str:
        found = command(self._document, holding)
        for place, value in self._places.items():
            found = found.replace(place, value)
        return found

    def key(self, place: str) -> str:
        return self._places[place]

    def scrape(self) -> metrics.Scrape:
        return metrics.scrape(self.server.address, 9641, self.server.namespace)


@pytest.fixture
def town(lab: Lab, tmp_path: Path) -> Callable[..., Town]:
    def build(document: str, **environment: str) -> Town:
        return Town(lab, tmp_path, document, **environment)

    return build


def test_two_people_chat_as_the_readme_has_it(town: Callable[..., Town]) -> None:
    here = town(README)
    with ExitStack() as stack:
        bob = stack.enter_context(here.bob.terminal(here.typed("chat --identity bob.key")))
        bob.see("Waiting for a call")
        alice = stack.enter_context(here.alice.terminal(here.typed("chat BOBS_KEY")))
        bob.see(f"{here.key('ALICES_KEY')} calls")
        bob.type("y")
        alice.see("Connected with")
        alice.type("hello, Bob")
        bob.see("< hello, Bob")
        bob.type("hello, Alice")
        alice.see("< hello, Alice")
        alice.type("/quit")
        assert (alice.end(), bob.end()) == (0, 0)
    assert here.scrape().total("turnrelay_relayed_bytes_total") > 0


def test_two_programs_chat_over_the_relay_with_credentials_of_the_applications_server(
    town: Callable[..., Town],
) -> None:
    # With relayed addresses alone, neither side connects unless its own credential is good.
    here = town(FIRST_CHAT, PEERPATH_RELAY_ONLY="true")
    application = serve_application(here, "--ttl 4")
    bob = here.bob.start(here.typed("first_chat/answer.py"))
    bob.wait_until(lambda: "waiting for calls" in bob.output())
    calling = here.typed("first_chat/call.py")
    assert here.alice.run(calling).splitlines() == expected_of_alice()
    # The third renewal is six seconds from the first credential, which was good for four.
    application.wait_until(lambda: application.output().count("bob has a credential for 4 s") >= 4)
    assert here.alice.run(calling).splitlines() == expected_of_alice()
    bob.wait_until(lambda: bob.output().count("has hung up") == 2)
    assert re.findall("they say: (.*)", bob.output()) == ["hello", "how are you?"] * 2
    page = here.scrape()
    told = {"outcome": "connected", "method": "relay_udp"}
    assert page.total("turnrelay_traversal_sessions_total", **told) == 2
    assert page.total("turnrelay_relayed_bytes_total") > 0


def test_whoever_cannot_talk_is_told_why(town: Callable[..., Town]) -> None:
    here = town(FIRST_CHAT)
    serve_application(here)
    calling = here.typed("first_chat/call.py")
    stranger = calling.replace("alices-login", "nobodys-login")
    assert "ClientResponseError: 401, message='Unauthorized'" in failure(here.alice, stranger)
    assert "they are not there: call again later" in failure(here.alice, calling)
    allowing_himself_alone = here.typed("first_chat/answer.py").replace(
        *map(here.key, ("ALICES_KEY", "BOBS_KEY"))
    )
    bob = here.bob.start(allowing_himself_alone)
    bob.wait_until(lambda: "waiting for calls" in bob.output())
    assert "they do not take the call: the peer takes no calls of this key" in failure(here.alice, calling)


def serve_application(here: Town, *more: str) -> Process:
    running = here.relay.start(" ".join([here.typed("application_server.py"), *more]))

    def listens() -> bool:
        with (
            here.server.inside(),
            suppress(OSError),
            socket.create_connection((here.server.address, 8080), 5),
        ):
            return True
        return False

    return running.wait_until(listens)


def expected_of_alice() -> list[str]:
    return ["connected by relay", "you said: hello", "you said: how are you?"]


def failure(machine: Machine, typed: str) -> str:
    """What a program prints that ends with 1."""
    process = machine.start(typed)
    with pytest.raises(ProcessFailed, match="ended with 1\n"):
        process.wait(60)
    assert "Traceback" not in process.output()
    return process.output()
