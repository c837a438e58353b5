"""Lightning modules and data modules that several studies share; the public call is `train.train`."""
