"""Lockstep on random programs: drawn, run on all kernels, and what differs made small and kept."""
