"""The command `peerpath`: what it prints, and how it ends."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from peerpath.net.ports import bindable_port
from unit.sdk.stun.servers_on_loopback import LoopbackServer

pytest.importorskip("typer", reason="the extra `cli` is not installed")


async def called(*arguments):
    """Standard output of a call in this process, which must succeed."""
    result = await asyncio.to_thread(invoke, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def invoke(*arguments, env=None):
    from peerpath.commands.app import app
    from typer.testing import CliRunner

    return CliRunner().invoke(app, [*map(str, arguments)], env=env)


def command(*arguments):
    return [sys.executable, "-c", "from peerpath.cli import main; main()", *map(str, arguments)]


async def peerpath(*arguments, code=0, **environment):
    """Standard output and standard error of a run that must end with `code`."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    assert process.returncode == code, (output, errors)
    return output.decode(), errors.decode()


async def test_discover_as_json():
    async with LoopbackServer() as server:
        output, errors = await peerpath("discover", "--stun", f"127.0.0.1:{server.address.port}", "--json")
    found = json.loads(output)

    assert errors == ""
    assert found["public_address"].startswith("127.0.0.1:")
    assert found["mapping"] == "endpoint-independent"
    assert found["filtering"] == "unknown"
    assert found["hairpinning"] is None
    assert found["nat_type"] == "open_internet"
    assert found["udp_blocked"] is False


async def test_discover_in_words_with_servers_from_the_environment():
    async with LoopbackServer() as server:
        environment = {"PEERPATH_STUN_SERVERS": f"127.0.0.1:{server.address.port}"}
        output = (await asyncio.to_thread(invoke, "discover", env=environment)).stdout

    assert "Open Internet" in output
    assert "connects by hole punching" in output
    assert "Filtering is unknown" in output


async def test_candidates():
    async with LoopbackServer(mapped=("203.0.113.7", 40000)) as server:
        where = f"127.0.0.1:{server.address.port}"
        output = await called("candidates", "--stun", where, "--port", bindable_port(0, 0), "--json")

    assert json.loads(output)[-1] == {"host": "203.0.113.7", "port": 40000, "kind": "public"}


async def test_check_server():
    async with LoopbackServer() as server:
        output = await called("check-server", f"stun:127.0.0.1:{server.address.port}", "--json")
    report = json.loads(output)

    assert report["ok"] is True
    assert [step["name"] for step in report["steps"]] == ["Name", "Binding"]


async def test_punch():
    one, two = bindable_port(20000, 32000), bindable_port(20000, 32000)
    (first, _), (second, _) = await asyncio.gather(
        peerpath("punch", f"127.0.0.1:{two}", "--port", one, "--json"),
        peerpath("punch", f"127.0.0.1:{one}", "--port", two),
    )
    assert json.loads(first)["remote"] == f"127.0.0.1:{two}"
    assert f"reaches 127.0.0.1:{one}" in second


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["discover", "--stun", "a b"], "stun_servers: 'a b': write a host name"),
        (["check-server", "http://h"], "scheme: begin with stun:"),
        (["check-server", "turns:h?transport=udp"], "DTLS is not spoken here"),
        (["check-server", "turn:h", "--user", "x"], "give --user and --password together"),
        (["check-server", "turn:h", "--user", "x", "--password", "y\n"], "password: OpaqueString refuses it"),
        (["punch", "127.0.0.1"], "a port is missing"),
        (["candidates", "--config", "/nowhere/x.toml"], "No such file"),
    ],
)
def test_misuse_is_told_in_one_line(arguments, complaint):
    result = invoke(*arguments)

    assert result.exit_code == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


async def test_without_the_extra_it_says_what_to_install(tmp_path):
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('gone', name='typer')")
    _, errors = await peerpath("--help", code=2, PYTHONPATH=str(tmp_path))

    assert errors.strip() == (
        "The command needs typer, which is not installed: install peerpath with its extra cli"
    )
