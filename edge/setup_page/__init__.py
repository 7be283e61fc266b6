"""The page a person sees. Holds no secret and no store: everything comes from the agent."""
