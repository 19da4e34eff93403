"""The manifests are what Kubernetes, KubeRay and Ray Serve take.

rayservice.v1.json.gz is the schema of KubeRay's RayService at commit feeaf72facab4881ba2b179248bb67315634e229,
under the Apache licence, without its descriptions.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from engine.serving import answered
from engine.serving.cluster import application

DEPLOY = Path(answered.__file__).with_name("deploy")
KUBERNETES = "1.37"
SCHEMA = json.loads(gzip.decompress(Path(__file__).with_name("rayservice.v1.json.gz").read_bytes()))


def strict(schema: Any) -> Any:
    """As Kubernetes reads it: unknown fields are errors, and some values may be numbers or strings."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {name: strict(each) for name, each in schema.items()}
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def documents() -> dict[str, Any]:
    """By kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())}


@pytest.mark.parametrize("kind", ["Secret", "Ingress"])
def test_kubernetes_takes_its_own_kinds(kind: str) -> None:
    kubernetes_validate.validate(documents()[kind], KUBERNETES, strict=True)


def service() -> Any:
    # what is in the top level of every object of Kubernetes
    open_ended = {**SCHEMA, "properties": {**SCHEMA["properties"], "metadata": {"type": "object"}}}
    return strict(open_ended)


def test_kuberay_takes_the_service() -> None:
    jsonschema.validate(documents()["RayService"], service())


def test_the_schema_finds_what_is_wrong() -> None:
    wrong = documents()["RayService"]
    wrong["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minimumReplicas"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minimumReplicas"):
        jsonschema.validate(wrong, service())


def configs() -> list[str]:
    return [(DEPLOY / "serve.yaml").read_text(), documents()["RayService"]["spec"]["serveConfigV2"]]


@pytest.mark.parametrize("config", configs(), ids=["serve.yaml", "kuberay.yaml"])
def test_ray_serve_takes_the_application(config: str) -> None:
    deploy = ServeDeploySchema.model_validate(yaml.safe_load(config))
    [app] = deploy.applications
    assert app.import_path == f"{application.__module__}:{application.__name__}"
    assert application(app.args)


def test_the_replicas_fit_the_workers() -> None:
    document = documents()["RayService"]["spec"]
    [app] = ServeDeploySchema.model_validate(yaml.safe_load(document["serveConfigV2"])).applications
    [group] = document["rayClusterConfig"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    cores = int(container["resources"]["limits"]["cpu"])
    assert app.args["min_replicas"] * app.args["cpus"] <= group["minReplicas"] * cores
    assert app.args["max_replicas"] * app.args["cpus"] <= group["maxReplicas"] * cores
    assert {"name": "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "value": answered.PATH} in container["env"]
