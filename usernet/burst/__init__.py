"""Bursts of super-packets, and the kernels that seal and open them."""
