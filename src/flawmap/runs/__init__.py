"""Every file of a run, a model folder and an evaluation: its name, its reader and its writer."""
