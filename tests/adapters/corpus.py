"""Bodies that are known to be hard on parsers, sent as they are beside what Hypothesis makes up."""

from __future__ import annotations

from typing import Final

_V2: Final = b'{"inputs":[{"name":"grid","datatype":"FP32","shape":%b,"data":%b}]}'

BODIES: Final[dict[str, bytes]] = {
    "nothing": b"",
    "null": b"null",
    "blank": b" \t\r\n",
    "byte order mark": b'\xef\xbb\xbf{"instances":[]}',
    "UTF-16": '{"instances":[]}'.encode("utf-16"),
    "no UTF-8": b'{"instances":["\xff\xfe"]}',
    "overlong UTF-8": b'{"instances":["\xc0\x80"]}',
    "lone surrogate": rb'{"instances":[{"customer":"\ud800"}]}',
    "NUL in a key": rb'{"\u0000":1,"instances":[]}',
    "NUL as it is": b'{"instances":[{"customer":"\0"}]}',
    "keys twice": b'{"instances":[],"instances":[{"count":1}],"inputs":[],"inputs":{}}',
    "two documents": b'{"instances":[]}{"instances":[]}',
    "trailing comma": b'{"instances":[1,],}',
    "comment": b'{"instances":[] /* none */}',
    "NaN": b'{"instances":[{"prices":[NaN,-Infinity]}]}',
    "overflow": b'{"instances":[{"prices":[1e999]},{"pair":[65520,-65520]}]}',
    "underflow": b'{"instances":[{"prices":[1e-999,-0.0]}]}',
    "an endless number": b'{"instances":[{"count":' + b"9" * 5000 + b"}]}",
    "an endless fraction": b'{"instances":[{"prices":[0.' + b"3" * 5000 + b"]}]}",
    "a number that begins with 0": b'{"instances":[{"count":007}]}',
    "base64 without padding": b'{"instances":[{"stamp":{"b64":"AAE"}}]}',
    "base64 of another alphabet": b'{"instances":[{"stamp":{"b64":"_-8="}}]}',
    "empty rows": _V2 % (b"[0,1,2]", b"[]"),
    "a shape whose product overflows": _V2 % (b"[4294967296,4294967296,2]", b"[]"),
    "a shape of fractions": _V2 % (b"[1.0,1,2]", b"[1,2]"),
    "a shape of truths": _V2 % (b"[true,true,2]", b"[1,2]"),
    "a shape below zero": _V2 % (b"[-1,-1,2]", b"[1,2]"),
    "ragged": _V2 % (b"[1,2,2]", b"[[1,2],[3]]"),
    "a name twice": b'{"inputs":[%b,%b]}'
    % ((b'{"name":"count","datatype":"UINT64","shape":[1],"data":[1]}',) * 2),
    "a job without places": b'{"type":"file"}',
    "a job of another type": b'{"type":"url","input":"file:///etc/passwd","output":""}',
    "a job whose places are no text": b'{"type":"file","input":[],"output":{}}',
    "a job in the devices": b'{"type":"file","input":"/dev/null","output":"/dev/full"}',
}
