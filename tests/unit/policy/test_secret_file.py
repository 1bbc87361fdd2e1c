"""The secret of the first start: made once, private, the same for all who start at once."""

import subprocess
import sys
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from turnrelay.policy.errors import OperatorError
from turnrelay.policy.secret_file import OPERATOR_TOKEN, load_or_create_secret


def test_made_once_and_private(tmp_path):
    data_dir = tmp_path / "deep" / "data"
    secret = load_or_create_secret(data_dir)
    assert len(urlsafe_b64decode(secret + "=")) == 32
    assert load_or_create_secret(data_dir) == secret
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert (data_dir / "shared-secret").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in data_dir.iterdir()] == ["shared-secret"]


def test_each_secret_has_its_own_file(tmp_path):
    shared, token = load_or_create_secret(tmp_path), load_or_create_secret(tmp_path, OPERATOR_TOKEN)
    assert shared != token
    assert load_or_create_secret(tmp_path, OPERATOR_TOKEN) == token
    assert (tmp_path / "operator-token").stat().st_mode & 0o777 == 0o600


def test_two_directories_two_secrets(tmp_path):
    assert load_or_create_secret(tmp_path / "a") != load_or_create_secret(tmp_path / "b")


def test_all_who_start_at_once_get_the_same(tmp_path):
    program = (
        "import sys, pathlib; from turnrelay.policy.secret_file import load_or_create_secret as load;"
        "sys.stdin.read(); print(load(pathlib.Path(sys.argv[1])))"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for start in starts:
        assert start.stdin is not None
        start.stdin.close()
    secrets = set()
    for start in starts:
        assert start.stdout is not None
        secrets.add(start.stdout.read())
        assert start.wait() == 0
    assert len(secrets) == 1


def test_what_a_crash_left_behind_is_no_hindrance(tmp_path):
    (tmp_path / "shared-secret.new").write_text("ha")
    assert len(load_or_create_secret(tmp_path)) == 43


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_secret_that_others_may_read_is_refused(tmp_path, mode):
    load_or_create_secret(tmp_path)
    file = tmp_path / "shared-secret"
    file.chmod(mode)
    with pytest.raises(OperatorError, match=f"chmod 600 {file}"):
        load_or_create_secret(tmp_path)


@pytest.mark.parametrize(("content", "text"), [(b"\n", "empty"), (b"\xff\xfe", "no text")])
def test_a_file_without_a_secret(tmp_path, content, text):
    file = tmp_path / "shared-secret"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(OperatorError, match=text):
        load_or_create_secret(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OperatorError, match="--data-dir"):
        load_or_create_secret(blocked / "data")
    with pytest.raises(OperatorError, match="--data-dir"):
        load_or_create_secret(Path("/proc/turnrelay"))
