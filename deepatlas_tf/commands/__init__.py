"""The commands of ``deepatlas``, one file each."""
