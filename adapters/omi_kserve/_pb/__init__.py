"""Generated protobuf messages: protos/README.md says from what and how."""
