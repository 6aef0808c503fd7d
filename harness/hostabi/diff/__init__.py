"""What differs between two captures, how grave it is, and who is hit. Knows no surface."""
