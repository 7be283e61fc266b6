"""The simulated house that `make run` and the tests share: real parts, simulated hardware."""
