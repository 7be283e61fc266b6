"""The setup page, from outside: its security, and the page in a real browser."""
