"""What cannot be run here is at least what its readers take: hadolint, Kubernetes' schemas, the restricted standard."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.cli import cli
from tests.support.skipping import skip

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))
DOCUMENTS = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}")
    for path in MANIFESTS
    for document in yaml.safe_load_all(path.read_text())
]
Object = dict[str, Any]


def test_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        skip("needs hadolint")
    done = subprocess.run([str(program), str(DOCKER / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("version", ["1.30", "1.33"])
def test_a_manifest_is_of_its_schema(document: Object, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def pods() -> list[Object]:
    found = []
    for parameter in DOCUMENTS:
        document: Any = parameter.values[0]
        if document["kind"] == "Pod":
            found.append(document["spec"])
        elif document["kind"] == "Deployment":
            found.append(document["spec"]["template"]["spec"])
    return found


@pytest.mark.parametrize("pod", pods())
def test_a_pod_is_of_the_restricted_standard(pod: Object) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    assert pod["enableServiceLinks"] is False  # our own Service would set USERNET_PORT
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        assert forbidden not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= kinds
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in context
        assert not any("hostPort" in port for port in container.get("ports", ()))
        assert "memory" in container["resources"]["limits"]


def ours() -> list[list[str]]:
    """The arguments of each place that starts `usernet run`."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    found = [compose["services"]["usernet"]["command"]]
    for pod in pods():
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            if container["image"].startswith("usernet"):
                found.append(container["args"])
    return found


@pytest.mark.parametrize("arguments", ours())
def test_its_flags_are_ours(arguments: list[str]) -> None:
    command = cli.get_command(None, "run")  # type: ignore[arg-type]
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert arguments[0] == "run"
    assert {each.partition("=")[0] for each in arguments if each.startswith("--")} <= known


def test_the_label_is_the_version() -> None:
    (version,) = re.findall(r'image\.version="([^"]+)"', (DOCKER / "Dockerfile").read_text())
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_role_is_for_one_secret() -> None:
    """`get` and `patch` of the one that --state names; it is made beforehand, since `create` cannot be for one name."""
    documents = list(yaml.safe_load_all((DOCKER / "kubernetes/gateway.yaml").read_text()))
    by_kind: dict[str, Object] = {document["kind"]: document for document in documents}
    name = by_kind["Secret"]["metadata"]["name"]
    assert by_kind["Role"]["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get", "patch"]}
    ]
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    assert f"--state=kube:{name}" in pod["containers"][0]["args"]
    assert pod["serviceAccountName"] == by_kind["RoleBinding"]["subjects"][0]["name"]


def test_compose_gives_no_more_than_is_needed() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    service = compose["services"]["usernet"]
    assert service["healthcheck"]["test"] == ["CMD", "usernet", "healthcheck"]
    assert [volume.split(":")[0] for volume in service["volumes"]] == list(compose["volumes"])
    assert compose["services"]["client"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_what_the_image_is_built_from_is_let_through() -> None:
    """What setuptools reads is not kept out by .dockerignore."""
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "usernet", "proxy"} == set(allowed)
    for name in allowed:
        assert (ROOT / name).exists()
