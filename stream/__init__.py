"""Pictures in, pictures out, and the overlap between: files at both ends, generators within."""
