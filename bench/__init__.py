"""Measurements: what it costs and how good it is, each printed with machine, date and command."""
