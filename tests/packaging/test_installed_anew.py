"""`uv sync --no-editable`, as deploy/README.md has it, installs what has changed in a checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
COPIED = ("pyproject.toml", "uv.lock", "stun", "server", "client_sdk")
CHANGED = {
    "stun/stunwire/__init__.py": "\nCHANGED = True\n",
    "client_sdk/peerpath/ice/__init__.py": "\nCHANGED = True\n",
    "server/turnrelay/core/__init__.py": "\nCHANGED = True\n",
    "server/turnrelay/web/static/style.css": "\n/* changed */\n",
}


def sync(checkout: Path, environment: Path) -> Path:
    """Installs the three packages; the folder that they are in then."""
    variables = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment), "UV_PYTHON_DOWNLOADS": "never"}
    argv = [UV, "sync", "--locked", "--quiet", "--no-editable", "--no-default-groups", "--all-packages"]
    done = subprocess.run(argv, cwd=checkout, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [packages] = environment.glob("lib/python*/site-packages")
    return packages


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_has_changed_is_installed_though_no_version_has(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in COPIED:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "*.o", "*.so")
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=ignored)
        else:
            shutil.copy2(source, checkout / name)
    sync(checkout, tmp_path / "installed")
    for name, more in CHANGED.items():
        with (checkout / name).open("a") as file:
            file.write(more)
    packages = sync(checkout, tmp_path / "installed")
    for name, more in CHANGED.items():
        inside = Path(*Path(name).parts[1:])
        assert (packages / inside).read_text().endswith(more), name
