"""What `gatebook policy` can do, one module each, imported when it is called."""
