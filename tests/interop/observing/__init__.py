"""What KServe's server and this one do, in the words of the table in docs/interfaces/kserve.md.

Each row has one function, named by `row`. It asks one server through its sockets and returns the
row's cell for it; it is called for KServe's server, in `peers/kserve_plain.py`, and for ours. So
what differs between the two cells of a row is what the servers have answered.
"""

from observing import binary, lifecycle, rest, rpc
from observing.rows import ROWS

__all__ = ["ROWS", "binary", "lifecycle", "rest", "rpc"]
