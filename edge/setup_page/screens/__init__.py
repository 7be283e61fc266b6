"""The screens, one file each: they read forms, ask the agent and pick a template."""
