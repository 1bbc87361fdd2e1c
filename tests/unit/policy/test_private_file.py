"""Files of the data directory that root makes are those of the directory's owner."""

import os

import pytest
from turnrelay.policy.private_file import create_private, open_private
from turnrelay.policy.secret_file import load_or_create_secret
from turnrelay.policy.user_database import FILE_NAME, UserDatabase

SOMEBODY = 10001

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def others_directory(tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, SOMEBODY, SOMEBODY)
    return data_dir


@needs_root
def test_what_root_makes_belongs_to_the_owner_of_the_directory(others_directory):
    load_or_create_secret(others_directory)
    UserDatabase(others_directory / FILE_NAME, "turnrelay").add("alice", "hunter22", 0)
    os.close(open_private(others_directory / "pid"))
    for file in others_directory.iterdir():
        status = file.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (SOMEBODY, SOMEBODY, 0o600), file
    assert len(list(others_directory.iterdir())) == 3


@needs_root
def test_what_a_link_leads_to_is_not_given_away(others_directory, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("root's")
    victim.chmod(0o600)
    (others_directory / "pid").symlink_to(victim)
    os.close(open_private(others_directory / "pid"))
    assert victim.stat().st_uid == 0
    (others_directory / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        open_private(others_directory / "dangling")
    assert not (tmp_path / "nowhere").exists()


def test_a_new_file_is_private_and_new(tmp_path):
    os.close(create_private(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "file")
    os.close(open_private(tmp_path / "file"))
