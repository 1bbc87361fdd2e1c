"""The files in deploy/, judged by the programs that will read them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.requirements import require_program
from turnrelay.settings.keys import BY_VARIABLE, CONFIG_VARIABLE

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
    assert set(relay.get("cap_add", [])) == ({"BPF", "NET_ADMIN", "PERFMON"} if more else set())


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
    "file", ["Dockerfile", "compose.yaml", "compose.kernel-plane.yaml", "systemd/turnrelay.service"]
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
