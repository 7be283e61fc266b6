"""The way back: what a device should do now (decide), and making it so (carry_out)."""
