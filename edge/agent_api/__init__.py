"""The agent's door: HTTP + JSON on two Unix sockets, messages typed in edge/contract.

`agent.sock` is the command line's: who can open it is root or the agent itself, and may do all.
`page.sock` is the setup page's: every request on it carries a session, or is one of the few that
need none (agent_api/access.py). This room translates between messages and parts; it decides little.
"""
