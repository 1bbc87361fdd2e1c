"""deploy/kubernetes.yaml: what it would have a cluster do."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate
from turnrelay.settings import Settings
from turnrelay.settings.sources import load_settings

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes.yaml"
DOCUMENTS = {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text())}
OLDEST, NEWEST = "1.28", "1.36"


@pytest.fixture
def pod() -> dict[str, Any]:
    return DOCUMENTS["DaemonSet"]["spec"]["template"]["spec"]


@pytest.fixture
def relay(pod) -> dict[str, Any]:
    [container] = pod["containers"]
    return container


def settings_of(relay: dict[str, Any]) -> Settings:
    """What the relay would run with, its secrets filled in."""
    environ = {}
    for variable in relay["env"]:
        if "value" in variable:
            environ[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == DOCUMENTS["Secret"]["metadata"]["name"]
            assert reference["key"] in DOCUMENTS["Secret"]["stringData"]
            environ[variable["name"]] = "a-secret-that-is-long-enough"
    loaded = load_settings(environ=environ)
    assert loaded.warnings == [], "every variable is a setting"
    return loaded.settings


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_kubernetes_knows_every_field(kind, version):
    validate(DOCUMENTS[kind], version, strict=True)


def test_the_probes_find_the_http_side(relay):
    http = settings_of(relay).http
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        asked = relay[probe]["httpGet"]
        assert (asked["host"], asked["port"], asked["path"]) == (http.host, http.port, path)


def test_a_drain_ends_before_the_pod_is_killed(pod, relay):
    assert settings_of(relay).drain_timeout < pod["terminationGracePeriodSeconds"]


def test_the_pod_has_the_user_and_the_directory_of_the_image(pod, relay):
    dockerfile = (MANIFEST.parent / "Dockerfile").read_text()
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]
    assert f"USER {user}:{group}\n" in dockerfile
    assert f"VOLUME {relay['volumeMounts'][0]['mountPath']}\n" in dockerfile
    assert pod["securityContext"]["fsGroup"] == group
