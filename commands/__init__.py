"""Commands beside the main one: `python run_stream.py WORD …` runs the module of that word."""
