"""`make run`: the simulated house, the box in it and a real FlexMeasures, watched in a terminal."""
