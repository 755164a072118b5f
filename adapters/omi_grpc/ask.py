"""`omi predict --url` over the OMI interface."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omi_runtime.errors import InvalidRequest, OMIError
from omi_runtime.tls import ClientCertificates

if TYPE_CHECKING:
    import grpc


def run_files(
    url: str,
    files: Mapping[str, bytes],
    *,
    explain: bool,
    detect_drift: bool,
    certificates: ClientCertificates,
    quiet: bool,
) -> dict[str, bytes]:
    """One item's files to a server; its answer's files.

    Args:
        url: as `Client` takes it.
        files: contents by name.
        explain: ask for an explanation.
        detect_drift: ask for drift.
        certificates: those that TLS is to use, if there are any.
        quiet: gRPC is to write no log lines of its own, such as one for each handshake that fails.

    Raises:
        InvalidRequest: the URL is none, or is not one for certificates.
        PredictionFailed: the item failed.
        NotLoaded: the model failed to load.
        OMIError: the call failed.
    """
    if quiet:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when grpc is imported
    import grpc  # noqa: PLC0415

    from omi_grpc.client import Client  # noqa: PLC0415

    try:
        with Client(url, credentials=_credentials(url, certificates)) as client:
            (answer,) = client.run([files], explain=explain, detect_drift=detect_drift)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    except grpc.RpcError as error:
        raise OMIError(f"{url}: {error.code().name}: {error.details()}") from None
    answer.raise_error()
    return dict(answer.files)


def _credentials(url: str, certificates: ClientCertificates) -> grpc.ChannelCredentials | None:
    import grpc  # noqa: PLC0415

    if certificates == ClientCertificates():
        return None
    if not url.startswith("grpcs://"):
        raise InvalidRequest(f"{url}: certificates are for TLS: expected grpcs://host:port")
    return grpc.ssl_channel_credentials(certificates.ca, certificates.key, certificates.certificate)
