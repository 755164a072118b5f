"""Reads a manifest into the SDK's own types and writes it back: nothing may be unknown or lost.

What lies below the predictor is Kubernetes', and checked against its schemas elsewhere.
"""

import sys
from pathlib import Path

import yaml
from kserve import (
    V1beta1InferenceService,
    V1beta1InferenceServiceSpec,
    V1beta1PredictorSpec,
)
from kserve.api_client import ApiClient


def build(kind, content):
    """An object of the SDK's from keys as they are on the wire; KeyError for one it has not."""
    attributes = {key: attribute for attribute, key in kind.attribute_map.items()}
    return kind(**{attributes[key]: value for key, value in content.items()})


content = next(yaml.safe_load_all(Path(sys.argv[1]).read_text()))
predictor = build(V1beta1PredictorSpec, content["spec"]["predictor"])
spec = build(V1beta1InferenceServiceSpec, {"predictor": predictor})
service = build(V1beta1InferenceService, {**content, "spec": spec})
back = ApiClient().sanitize_for_serialization(service)
assert back == content, (back, content)
(container,) = service.spec.predictor.containers
print(service.kind, container["name"], container["image"])
