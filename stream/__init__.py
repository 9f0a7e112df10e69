"""Pictures in, pictures out, the overlap between: files at both ends, generators in the middle."""
