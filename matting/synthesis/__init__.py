"""Pictures of people with exactly known alpha, for training and for tests.

sources.py  cut-outs, backgrounds and labelled photographs, read from a data folder
scenes.py   people over a background, still or moving, rendered with every person's visible alpha
camera.py   what a lens, a sensor and a codec do to a picture afterwards
"""
