"""How far ahead and beside cars look: what kernels and their references share."""

LEAD_RANGE = 80.0
"""How far ahead traffic matters [m]."""
STEP = 2.0
"""Path points are looked at so far apart [m]."""
ALONG = 1.5
"""How far before or behind a path point something counts as being at it [m]."""
BESIDE = 0.3
"""How far beside a car's own width something is still in its way [m]."""
LIGHT_REACH = 2.0
"""How far beside the path a stop point may be [m]."""
