"""Lets FlexMeasures be imported in a third of the time and memory, for servers only.

Modules that FlexMeasures names at import but never uses in a server without forecasts (half a
gigabyte of them) are stood in for while the importing module is read; after that they are gone
from sys.modules, so nobody mistakes them for the real ones.
"""

import contextlib
import sys
import types
from collections.abc import Iterator


class Hollow(types.ModuleType):
    """A module in which every name is an empty class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (), {"__init__": lambda self, *args, **named: None})
        setattr(self, name, value)
        return value


@contextlib.contextmanager
def hollow(*names: str) -> Iterator[dict[str, Hollow]]:
    """Stand in for modules, parents first, while something that names them is imported."""
    ours = {name: Hollow(name) for name in names if name not in sys.modules}
    sys.modules.update(ours)
    for name, module in ours.items():
        head, _, tail = name.rpartition(".")
        if head:
            setattr(sys.modules[head], tail, module)
    try:
        yield ours
    finally:
        for name in ours:
            sys.modules.pop(name, None)


def take() -> None:
    """Import the slow parts of FlexMeasures with what they do not need left out."""
    with hollow("typeguard") as stands_in:  # inflect checks the types of every method call with it
        if "typeguard" in stands_in:
            stands_in["typeguard"].typechecked = lambda function: function
        import inflect  # noqa: F401
    with hollow("openturns", "properscoring", "scipy", "scipy.special"):  # probabilistic scores
        import timely_beliefs  # noqa: F401
    transformers = ("darts.dataprocessing", "darts.dataprocessing.transformers")
    with hollow("darts", "darts.models", *transformers):  # forecasts
        from flexmeasures.data.models import forecasting  # noqa: F401
        from flexmeasures.data.models.forecasting.custom_models import (  # noqa: F401
            base_model,
            lgbm_model,
        )
        from flexmeasures.data.models.forecasting.pipelines import (  # noqa: F401
            base,
            predict,
            train,
        )
    import flexmeasures.cli

    flexmeasures.cli.register_at = lambda app: None  # the command line costs 80 MB
