"""The commands of ``deepatlas``, one file each."""

MODEL_HELP = "folder of a run, a SavedModel of deepatlas export, or hippocampus, whose networks come with the package"
