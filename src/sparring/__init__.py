"""Attack, measure, harden and certify vision models."""
