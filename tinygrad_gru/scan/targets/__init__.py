"""Code generators, one a target, and what they share."""
