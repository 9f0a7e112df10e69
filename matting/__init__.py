"""The subject itself: the nouns every room shares, and everything learned."""
