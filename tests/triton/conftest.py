"""In Triton's interpreter, which has a process of its own (test_interpreted.py), the faults; elsewhere all the rest."""

import os
import sys
from pathlib import Path

# The operator's cases and tolerances.
sys.path.append(str(Path(__file__).parents[1] / "svconv"))
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = ["test_interpreted.py", "test_triton_[!f]*.py"] if INTERPRETED else ["test_triton_faults.py"]
