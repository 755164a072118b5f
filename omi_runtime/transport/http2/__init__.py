"""The server's side of HTTP/2 (RFC 9113), for gRPC: why it is our own is decision 0020.

It knows no gRPC. `wire` has the bytes of frames, `fields` those of headers, `reader` takes apart
what comes and `writer` sends as fast as the client takes it; `connection` is both of one client,
and `stream` is one request and its answer within flow control. `keepalive` and `budget` guard it.
"""
