"""The demo: a support desk whose worker is killed while payments are in flight. `make demo`."""
