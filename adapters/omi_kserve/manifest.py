"""`omi manifest kserve`: an InferenceService that runs the image as a custom predictor.

The object is KServe's `serving.kserve.io/v1beta1`; its predictor is a pod, and its container has to
be called `kserve-container`.
"""

from __future__ import annotations

from typing import Final

from omi_runtime import kubernetes
from omi_runtime.adapter import ManifestRequest

CONTAINER_NAME: Final = "kserve-container"

_DEPLOYMENT_MODE: Final = "serving.kserve.io/deploymentMode"
_SERVICE_LABEL: Final = "serving.kserve.io/inferenceservice"


def render(request: ManifestRequest) -> str:
    """An InferenceService and a NetworkPolicy for its pods, as YAML."""
    selector = {_SERVICE_LABEL: request.name}
    return kubernetes.dump(
        [inference_service(request), kubernetes.network_policy(request, selector)]
    )


def inference_service(request: ManifestRequest) -> kubernetes.Object:
    """The model as a custom predictor, in the mode that lets a pod have time to drain.

    In KServe's other mode Knative owns terminationGracePeriodSeconds, and takes one port only.
    """
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": request.name,
            "labels": kubernetes.labels(request),
            "annotations": {_DEPLOYMENT_MODE: "RawDeployment"},
        },
        "spec": {
            "predictor": {"minReplicas": 1, **kubernetes.pod_spec(request, CONTAINER_NAME)},
        },
    }
