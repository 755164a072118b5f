"""The OMI interface: gRPC, the `ModzyModel` service."""
