"""The SDK without the server: its wheel in a clean environment passes its own tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
TESTS_NEED = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis")


def _run(*argv: str | Path, **more: str) -> str:
    environment = {**os.environ, **more}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(argv, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an environment that holds the SDK's wheels and what tests need, as locked."""
    for project in ("stun", "client_sdk"):
        _run(UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "wheels", ROOT / project)
    constraints = tmp_path / "constraints.txt"
    exported = _run(UV, "export", "--quiet", "--frozen", "--all-groups", "--no-hashes", "--no-emit-workspace")
    constraints.write_text(exported)
    _run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    interpreter = tmp_path / "venv" / "bin" / "python"
    wheels = sorted((tmp_path / "wheels").glob("*.whl"))
    install = (UV, "pip", "install", "--quiet", "--python", interpreter, "--constraints", constraints)
    _run(*install, *wheels, *TESTS_NEED)
    return interpreter


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_wheel_passes_its_unit_tests_without_the_server(python: Path) -> None:
    missing = subprocess.run([python, "-c", "import turnrelay"], capture_output=True, check=False)
    assert missing.returncode != 0, "the server is there, so this proves nothing"
    quietly = ("-q", "-p", "no:cacheprovider")
    output = _run(python, "-m", "pytest", *quietly, "tests/unit/stun", "tests/unit/sdk")
    assert " passed" in output
    assert "failed" not in output
