"""The server's side of HTTP/2 (RFC 9113), for gRPC: why it is our own is decision 0020.

It knows no gRPC. `wire` has the bytes of frames, `fields` those of headers, `connection` speaks
with one client, and `stream` sends and receives one request and its answer within flow control.
"""
