"""Networks that are no policies: they do not drive, they say how others do."""
