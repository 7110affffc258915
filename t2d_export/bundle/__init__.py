"""A bundle's other contents, and its verification."""
