"""The box: from the meters of a house to FlexMeasures, and back."""

__version__ = "0.1.0"
