"""A real FlexMeasures server for the simulated house; see README.md."""

from tests.house.flexmeasures.process import Account, FlexMeasuresServer, ServerTrouble

__all__ = ["Account", "FlexMeasuresServer", "ServerTrouble"]
