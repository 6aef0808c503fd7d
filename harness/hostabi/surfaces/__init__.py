"""The surfaces of the ABI, one file each: how to capture their facts from an image or a kernel."""
