"""Settings: YAML presets, the schema that checks them, and the command line that overrides them."""
