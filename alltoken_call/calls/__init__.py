"""One call each, as a library."""
