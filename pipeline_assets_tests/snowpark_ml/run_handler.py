"""Runs the inference code that a deployed package holds, as Snowflake's Python does: a program of its own.

The argument is the package's directory. Reads rows of numbers and nulls as JSON and prints the answers as
JSON: once with plain objects and once with pandas' nullable numbers. Imports nothing of the product.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

package = Path(sys.argv[1])
snowflake = types.ModuleType("_snowflake")
snowflake.vectorized = lambda **_: lambda function: function
sys.modules["_snowflake"] = snowflake
sys._xoptions["snowflake_import_directory"] = str(package)

import pandas as pd  # noqa: E402

place = package / "functions" / "predict_proba.py"
found = importlib.util.spec_from_file_location("handler", place)
handler = importlib.util.module_from_spec(found)
found.loader.exec_module(handler)
rows = json.load(sys.stdin)
answers = [handler.infer(pd.DataFrame(rows, dtype=kind)) for kind in ("object", "Float64")]
json.dump(answers, sys.stdout)
