"""The network, ready to run: a contract (base.py) and one file per backend."""
