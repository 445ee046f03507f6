"""Modules that take long to load."""

import gc
from importlib import import_module
from types import ModuleType


def loaded(name: str) -> ModuleType:
    """The module; nobody looks for garbage while it loads: that takes a fifth of torch's time, and there is none.

    Raises: as import_module does.
    """
    looked = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        if looked:
            gc.enable()
