"""JavaScript run by node, for tests of the text that the package emits."""

import json
import shutil
import subprocess
from typing import Any

import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node to run the report's JavaScript with")


def evaluate(code: str, *, before: str = "", **values: Any) -> Any:
    """Return the value of an expression over `given`, the values, after the statements `before`; JSON both ways."""
    assert NODE is not None
    script = f"{before}\nconst given = {json.dumps(values)};\nconsole.log(JSON.stringify({code}));"
    done = subprocess.run([NODE, "-"], input=script, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
