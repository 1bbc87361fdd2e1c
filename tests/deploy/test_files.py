"""The files in deploy/, judged by the programs that will read them."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from support.requirements import require_program, require_root_and_netns
from turnrelay.settings.keys import BY_VARIABLE, CONFIG_VARIABLE, KEYS
from turnrelay.settings.sources import load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "turnrelay.service"
WORST_EXPOSURE = 2.1


def run(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {**os.environ, **environment}
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=clean, cwd=DEPLOY)


def test_the_dockerfile_passes_its_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = run(hadolint, "--no-color", "--failure-threshold", "info", DEPLOY / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("more", [[], ["-f", "compose.kernel-plane.yaml"]])
def test_compose_takes_the_files_and_mounts_what_is_there(more):
    compose = require_program("docker-compose")
    done = run(compose, "-f", "compose.yaml", *more, "config", GRAFANA_PASSWORD="x")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    mounted = [
        volume.partition(":")[0]
        for service in services.values()
        for volume in service["volumes"]
        if volume.startswith("/")
    ]
    assert len(mounted) == 3
    assert [path for path in mounted if not any(Path(path).iterdir())] == []
    relay = services["relay"]
    assert relay["cap_drop"] == ["ALL"]


def test_compose_starts_nothing_with_a_password_that_everybody_knows():
    compose = require_program("docker-compose")
    done = run(compose, "-f", "compose.yaml", "config", GRAFANA_PASSWORD="")
    assert done.returncode != 0
    assert "choose one" in done.stderr


def test_prometheus_is_where_grafana_looks_and_scrapes_where_the_relay_is():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    listening = [word for word in services["prometheus"]["command"] if word.startswith("--web.listen")]
    assert listening == [f"--web.listen-address={services['grafana']['environment']['PROMETHEUS_URL'][7:]}"]
    scraped = yaml.safe_load((ROOT / "grafana" / "prometheus" / "prometheus.yml").read_text())
    assert scraped["scrape_configs"][0]["static_configs"] == [{"targets": ["localhost:9641"]}]


@pytest.mark.parametrize(
    "file",
    [
        "Dockerfile",
        "compose.yaml",
        "compose.kernel-plane.yaml",
        "kubernetes.yaml",
        "systemd/turnrelay.service",
    ],
)
def test_settings_that_are_named_exist(file):
    named = set(re.findall(r"TURNRELAY_[A-Z_]+", (DEPLOY / file).read_text()))
    assert named <= set(BY_VARIABLE) | {CONFIG_VARIABLE}


def test_systemd_takes_the_unit(tmp_path):
    """With the command of this environment in place of the one that an operator installs."""
    command = Path(sys.executable).with_name("turnrelay")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/turnrelay/bin/turnrelay", str(command)))
    drop_in = tmp_path / f"{UNIT.name}.d" / "kernel-plane.conf"
    drop_in.parent.mkdir()
    for parts in ("", (DEPLOY / "systemd" / "kernel-plane.conf").read_text()):
        drop_in.write_text(parts)
        done = run(require_program("systemd-analyze"), "verify", "--man=no", unit)
        assert (done.returncode, done.stderr) == (0, "")


def test_systemd_makes_the_user_that_the_unit_names(tmp_path):
    (tmp_path / "etc").mkdir()
    conf = DEPLOY / "systemd" / "sysusers.conf"
    done = run(require_program("systemd-sysusers"), f"--root={tmp_path}", conf)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "etc" / "passwd").read_text()
    [user] = re.findall(r"^User=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert re.search(rf"^{user}:x:\d+:\d+:.*:/var/lib/turnrelay:/usr/sbin/nologin$", made, re.MULTILINE)
    assert f"{user}:" in (tmp_path / "etc" / "group").read_text()


def test_the_settings_of_the_unit_are_sound():
    file = DEPLOY / "systemd" / "turnrelay.toml"
    assert load_settings(config_file=file, environ={}).warnings == []
    # Those that are only proposed, but for the certificate, which is not there.
    proposed = re.sub(r"^# (?=\w+ = )", "", file.read_text(), flags=re.MULTILINE)
    assert set(tomllib.loads(proposed)) <= set(KEYS)
    assert len(tomllib.loads(proposed)) == 7
    assert f"/etc/turnrelay/{file.name} " in UNIT.read_text()


def test_the_hook_of_certbot_gives_the_relay_what_it_may_read(tmp_path):
    """In an /etc of its own; no systemd runs the relay here, so nobody is signalled."""
    require_root_and_netns()  # for the same privileges: root, and namespaces for the mounts
    etc, lineage = tmp_path / "etc", tmp_path / "live" / "relay.example.org"
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    with (etc / "group").open("a") as group:
        group.write("turnrelay:x:54321:\n")
    (etc / "turnrelay").mkdir(exist_ok=True)
    lineage.mkdir(parents=True)
    for name in ("fullchain.pem", "privkey.pem"):
        (lineage / name).write_text(name)
    inside = f"mount --bind {etc} /etc && exec {DEPLOY}/systemd/certbot-hook"
    done = run(*("unshare", "--mount", "sh", "-c", inside), RENEWED_LINEAGE=str(lineage))
    assert done.returncode == 0, done.stderr
    for name in ("fullchain.pem", "privkey.pem"):
        file = etc / "turnrelay" / name
        assert (file.read_text(), file.stat().st_gid, file.stat().st_mode & 0o777) == (name, 54321, 0o640)


def test_the_unit_is_as_hard_as_a_relay_can_be():
    done = run(require_program("systemd-analyze"), "security", "--offline=true", "--json=short", UNIT)
    assert json.loads(done.stdout), done.stderr
    table = run(require_program("systemd-analyze"), "security", "--offline=true", UNIT).stdout
    exposure = re.search(r"Overall exposure level for turnrelay\.service: ([\d.]+)", table)
    assert exposure is not None
    assert float(exposure[1]) <= WORST_EXPOSURE
    settings = [line for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    assert not any(line.startswith("MemoryDenyWriteExecute") for line in settings), "cffi's callbacks need it"


def test_the_kernel_has_every_parameter_that_is_set():
    lines = (DEPLOY / "sysctl" / "60-turnrelay.conf").read_text().splitlines()
    settings = [line.split(" = ") for line in lines if line and not line.startswith("#")]
    assert len(settings) == 6
    for name, value in settings:
        file = Path("/proc/sys") / name.replace(".", "/")
        assert file.exists(), name
        assert len(file.read_text().split()) == len(value.split()), name
