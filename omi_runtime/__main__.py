"""`python -m omi_runtime` is `omi serve`."""

from omi_runtime.serve import main

raise SystemExit(main())
