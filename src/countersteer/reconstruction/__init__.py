"""From recorded frames to geometry: depth today."""
