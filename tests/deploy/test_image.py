"""The image, made by the Dockerfile's own instructions in an empty Debian, runs a relay."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.dockerfile import Stage, build, instructions, is_sent
from support.ports import answers_stun, loopback_address
from support.requirements import require_program, require_root_and_netns

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
MEGABYTE = 1 << 20


def test_what_a_checkout_holds_beside_its_sources_is_not_sent():
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text()
    for path in ("pyproject.toml", "uv.lock", "server/turnrelay/app.py", "stun/pyproject.toml"):
        assert is_sent(path, ignored), path
    for path in (".git/config", ".venv/bin/python", "tests/conftest.py", "server/turnrelay/relay/kernel/x.o"):
        assert not is_sent(path, ignored), path


def test_lines_are_joined_and_comments_left_out():
    text = "# no\nFROM a AS b\n# no\nRUN one; \\\n    # no\n    two\nENV A=1 \\\n    B=2\n"
    assert list(instructions(text)) == [("FROM", "a AS b"), ("RUN", "one; two"), ("ENV", "A=1 B=2")]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    require_root_and_netns()  # for the same privileges: root, and namespaces for the mounts
    require_program("debootstrap")
    folder = tmp_path_factory.mktemp("image")
    yield build(DOCKERFILE, ROOT, folder)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_image_is_small_runs_as_nobody_and_is_healthy(image: Stage):
    size = sum(file.lstat().st_size for file in image.root.rglob("*") if not file.is_symlink())
    compiler = [name for name in ("gcc", "clang", "pip", "uv") if (image.root / "usr/bin" / name).exists()]
    assert compiler == []
    assert size < 400 * MEGABYTE, f"{size / MEGABYTE:.0f} MiB"
    assert image.user not in ("0", "root")
    with loopback_address() as address:
        environment = image.environment() | {"TURNRELAY_LISTEN": address, "TURNRELAY_RELAY_IP": address}
        environment["TURNRELAY_HTTP"] = f"{address}:9641"
        relay = subprocess.Popen(
            image.argv([*image.entrypoint, *image.command]),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 30
            while not answers_stun(address, 3478):
                assert relay.poll() is None, relay.communicate()[0].decode()
                assert time.monotonic() < deadline, "the relay does not answer"
                time.sleep(0.2)
            process = os.stat(f"/proc/{relay.pid}")
            assert f"{process.st_uid}:{process.st_gid}" == image.user
            health = subprocess.run(image.argv(image.healthcheck), env=environment, timeout=60)
            assert health.returncode == 0
            with socket.create_connection((address, 9641), timeout=5) as http:
                http.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert b"200 OK" in http.recv(100)
        finally:
            relay.terminate()
            output = relay.communicate(timeout=30)[0].decode()
    assert relay.returncode == 0, output
    assert "turnrelay token prints it" in output
    made = {file.name for file in (image.root / "var/lib/turnrelay").iterdir()}
    assert {"shared-secret", "operator-token"} <= made
    unhealthy = subprocess.run(
        image.argv(image.healthcheck), env=environment, timeout=60, capture_output=True
    )
    assert unhealthy.returncode != 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_certificate_for_the_group_that_the_documents_name_can_be_read(image: Stage):
    [group] = set(re.findall(r"install .*-g (\d+)", (ROOT / "docs" / "operating.md").read_text()))
    certificates = image.root / "etc/turnrelay"
    key = certificates / "privkey.pem"
    subprocess.run(["install", "-d", "-m", "0750", "-g", group, certificates], check=True)
    subprocess.run(["install", "-m", "0640", "-g", group, DOCKERFILE, key], check=True)
    subprocess.run(image.argv(["cat", "/etc/turnrelay/privkey.pem"]), check=True, stdout=subprocess.DEVNULL)
