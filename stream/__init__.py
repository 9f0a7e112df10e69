"""Pictures in, pictures out, and the overlap between: files on both ends, generators in the middle."""
