"""What a guest boots into: the initramfs, module order and aliases, read-only disks."""
