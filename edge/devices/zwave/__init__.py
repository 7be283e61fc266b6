"""Z-Wave meters and switches, through the zwave-server beside us that owns the stick.

family.py is the door for the agent (Meter, Switch and, for the setup page, Network). Nothing here
is imported until the box is told to use Z-Wave: see edge/devices/__init__.py.
"""
