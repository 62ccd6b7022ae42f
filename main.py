"""What gcloud wants at the root: gives each deployment its function and loads nothing else."""

import importlib
import types

_FUNCTIONS = ("follow_up_check", "wapi_webhook")


def __getattr__(name: str) -> types.FunctionType:
    if name not in _FUNCTIONS:
        raise AttributeError(f"no function {name!r}; there are {', '.join(_FUNCTIONS)}")
    function: types.FunctionType = getattr(importlib.import_module(f"functions.{name}.main"), name)
    return function
