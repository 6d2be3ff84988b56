"""The commands of dr_tf: a module for each holds its flags, its set-up and one call into the library."""
