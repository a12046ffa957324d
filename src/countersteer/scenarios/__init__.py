"""Scenarios: what a drive is. The model, its readers, procedural roads and the bundled samples."""
