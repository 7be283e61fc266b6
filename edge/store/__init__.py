"""The two files: buffer.db (readings, outbox) and state.db (settings, commands)."""
