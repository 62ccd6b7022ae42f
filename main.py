"""What gcloud wants at the root: gives each deployment its function and loads nothing else."""

import gc
import importlib
import types

_FUNCTIONS = ("follow_up_check", "wapi_webhook")


def __getattr__(name: str) -> types.FunctionType:
    if name not in _FUNCTIONS:
        raise AttributeError(f"no function {name!r}; there are {', '.join(_FUNCTIONS)}")
    function: types.FunctionType = getattr(_imported(f"functions.{name}.main"), name)
    return function


def _imported(name: str) -> types.ModuleType:
    """Import a module that stays, and whose collecting would find nothing: a tenth of a cold start."""
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()
        # Nor need the collector walk all that with every few requests: a tenth more events a second.
        gc.freeze()
        gc.set_threshold(50_000)
