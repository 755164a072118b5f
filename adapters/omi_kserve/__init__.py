"""The KServe interface: the V1 protocol and the Open Inference Protocol V2 over REST."""
