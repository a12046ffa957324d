"""MetaDrive: its roads, its traffic, its physics; pictures by our renderer, or its own."""
