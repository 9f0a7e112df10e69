"""The page: a live session seen and steered from a browser."""
