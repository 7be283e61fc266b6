"""A simulated Z-stick that speaks the real Serial API on a pseudo-terminal."""

from tests.house.stick.stick import KWH, METER, PLUGS, WHOLE_HOUSE, A, Stick, V, Value, W

__all__ = ["KWH", "METER", "PLUGS", "WHOLE_HOUSE", "A", "Stick", "V", "Value", "W"]
