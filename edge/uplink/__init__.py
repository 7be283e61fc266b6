"""Everything that talks to FlexMeasures, and what must be computed before it can."""
