"""Z-Wave meters and switches, through the zwave-server beside us that owns the stick.

frame.py is what the agent loads, family.py the Meter and Switch, network.py what the setup page
does with devices. Nothing here is imported until the box is told to use Z-Wave.
"""

from zwave_js_server.event import BaseEventModel

# The client compiles a validator for each of sixty kinds of event at import, most of which never
# occur. Compiled when first needed they cost 1.3 MB less.
BaseEventModel.model_config["defer_build"] = True
