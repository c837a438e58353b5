"""Lightning modules and data modules that several studies share; the public calls are in `training.tasks`."""
