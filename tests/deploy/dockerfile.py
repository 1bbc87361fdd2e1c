"""Carries a Dockerfile out without Docker: in folders that debootstrap filled, through chroot.

Only the instructions that deploy/Dockerfile uses are known; another one is an error, so nothing is left out.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from support.requirements import require_program

BASE = {"debian:12-slim": "bookworm"}
"""The images that stages start from, and the release of Debian that each is."""
_MIRROR = "http://deb.debian.org/debian"
# How this machine reaches the registries is none of the image's business; a build needs it all the same.
_AUTHORITIES = "/etc/authorities-of-the-host.crt"
_REACHING = dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), _AUTHORITIES)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FILES_OF_A_CHECKOUT_ONLY = ("__pycache__", "*.o", "*.so", "*.egg-info")


@dataclass
class Stage:
    """What a stage has become: a root folder and what the image would say of it."""

    root: Path
    shell: Sequence[str] = ("/bin/sh", "-c")
    workdir: str = "/"
    user: str = "0"
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    healthcheck: Sequence[str] = ()

    def argv(self, command: Sequence[str], user: str | None = None) -> list[str]:
        """The command as it would run in a container."""
        who = self.user if user is None else user
        words = " ".join(shlex.quote(word) for word in command)
        inside = f"cd {shlex.quote(self.workdir)} && exec {words}"
        mounts = [f"mount --rbind /{name} {self.root}/{name}" for name in ("proc", "dev", "sys")]
        chroot = ["chroot", f"--userspec={who}", str(self.root), "/bin/sh", "-c", inside]
        script = " && ".join([*mounts, f"exec {shlex.join(chroot)}"])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]

    def environment(self) -> dict[str, str]:
        return {"HOME": "/root", **_REACHING, **self.env}

    def run(self, command: Sequence[str], timeout: float = 600) -> str:
        done = subprocess.run(
            self.argv(command, "0"),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction and its argument, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, argument = line.strip().partition(" ")
        yield name.upper(), argument.strip()


def build(dockerfile: Path, context: Path, folder: Path) -> Stage:
    """Carries all of it out; the last stage. Takes minutes."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for name, argument in instructions(dockerfile.read_text()):
        if name == "FROM":
            image, _, alias = argument.partition(" AS ")
            stage = Stage(_base(image, folder, folder / f"stage-{len(stages)}"))
            stages[alias or str(len(stages))] = stage
            continue
        assert stage is not None, "FROM comes first"
        match name:
            case "SHELL":
                stage.shell = json.loads(argument)
            case "RUN":
                stage.run([*stage.shell, argument])
            case "WORKDIR":
                stage.workdir = argument
                _within(stage.root, argument).mkdir(parents=True, exist_ok=True)
            case "ENV":
                _set(stage.env, argument)
            case "COPY":
                _copy(stage, argument, context, stages)
            case "USER":
                stage.user = argument
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(argument)
            case "CMD":
                stage.command = json.loads(argument)
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(argument[argument.index("CMD ") + 4 :])
            case "VOLUME" | "EXPOSE":
                pass
            case _:
                raise AssertionError(f"{dockerfile}: {name} is not known here")
    assert stage is not None
    return stage


def is_sent(path: str, dockerignore: str) -> bool:
    """Whether a file of the context gets to the builder; the last pattern that fits decides."""
    sent = True
    for line in dockerignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        parts = path.split("/")
        if pattern.startswith("**/"):
            fits = any(fnmatch(part, pattern[3:]) for part in parts)
        else:
            fits = any(fnmatch("/".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))
        if fits:
            sent = wanted
    return sent


def _base(image: str, folder: Path, root: Path) -> Path:
    """A new root like the image."""
    release = BASE[image]
    pristine = folder / release
    if not pristine.exists():
        command = [require_program("debootstrap"), "--variant=minbase", release, str(pristine), _MIRROR]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:]
        shutil.copy("/etc/resolv.conf", pristine / "etc/resolv.conf")
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", pristine / _AUTHORITIES.lstrip("/"))
    subprocess.run(["cp", "-a", str(pristine), str(root)], check=True)
    return root


def _set(env: dict[str, str], argument: str) -> None:
    for word in shlex.split(argument):
        name, _, value = word.partition("=")
        env[name] = re.sub(r"\$(\w+)", lambda found: env[found[1]], value)


def _copy(stage: Stage, argument: str, context: Path, stages: Mapping[str, Stage]) -> None:
    words = argument.split()
    source_root = context
    if words[0].startswith("--from="):
        source_root = stages[words.pop(0).removeprefix("--from=")].root
    *sources, target = words
    into = _within(stage.root, os.path.join(stage.workdir, target))
    ignored = (context / "deploy" / "Dockerfile.dockerignore").read_text()
    for source in sources:
        path = _within(source_root, source)
        if source_root == context:
            assert is_sent(source, ignored), f"{source} is copied, and .dockerignore keeps it away"
        if path.is_dir():
            leave_out = shutil.ignore_patterns(*_FILES_OF_A_CHECKOUT_ONLY) if source_root == context else None
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=leave_out)
        else:
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, into)


def _within(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
